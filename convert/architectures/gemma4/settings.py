"""GGUF settings of Gemma 4: the sizes from which libllama builds the model."""

from __future__ import annotations

from gguf import GGUFWriter

from localmtp.convert.architectures.gemma4.config import Gemma4Config


def write_settings(writer: GGUFWriter, config: Gemma4Config) -> None:
    """Write the sizes from which libllama builds the model."""
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_feed_forward_length(
        [config.ffn_at(i) for i in range(config.layers)] if config.double_wide else config.ffn
    )
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(
        [config.kv_heads_at(i) for i in range(config.layers)]
        if config.global_kv_heads is not None
        else config.kv_heads
    )
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_freq_base_swa(config.rope_theta_sliding)
    writer.add_layer_norm_rms_eps(config.epsilon)
    if config.experts is not None:
        writer.add_expert_count(config.experts)
    if config.experts_used is not None:
        writer.add_expert_used_count(config.experts_used)
    writer.add_key_length(config.global_head_dim)
    writer.add_value_length(config.global_head_dim)
    if config.softcap is not None:
        writer.add_final_logit_softcapping(config.softcap)
    writer.add_sliding_window(config.window)
    writer.add_shared_kv_layers(config.shared_kv)
    writer.add_embedding_length_per_layer_input(config.ple)
    writer.add_sliding_window_pattern(list(config.sliding))
    writer.add_key_length_swa(config.head_dim)
    writer.add_value_length_swa(config.head_dim)
    if config.expert_ffn is not None:
        writer.add_expert_feed_forward_length(config.expert_ffn)
    writer.add_rope_dimension_count(config.global_head_dim)
    writer.add_rope_dimension_count_swa(config.head_dim)
    if config.backbone is not None:
        writer.add_embedding_length_out(config.backbone)
        writer.add_nextn_predict_layers(config.layers)
