"""GGUF settings of Qwen 3.5: the sizes from which libllama builds the model."""

from __future__ import annotations

from gguf import GGUFWriter, RopeScalingType

from localmtp.convert.architectures.qwen35.config import Qwen35Config, RopeScaling


def write_settings(writer: GGUFWriter, config: Qwen35Config, n_heads: int) -> None:
    """Write the sizes from which libllama builds the model.

    Args:
        writer: receives the keys.
        config: sizes of the model.
        n_heads: number of MTP heads in the file; each counts as a layer.
    """
    writer.add_block_count(config.layers + n_heads)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    if config.ffn is not None:
        writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    _write_rope(writer, config)
    writer.add_layer_norm_rms_eps(config.epsilon)
    if config.experts is not None and config.experts_used is not None:
        writer.add_expert_count(config.experts)
        writer.add_expert_used_count(config.experts_used)
        writer.add_expert_feed_forward_length(config.expert_ffn)
        writer.add_expert_shared_feed_forward_length(config.shared_ffn)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_state_size(config.state)
    writer.add_ssm_group_count(config.key_heads)
    writer.add_ssm_time_step_rank(config.value_heads)
    writer.add_ssm_inner_size(config.state * config.value_heads)
    linear = [*config.linear, *(False,) * n_heads]
    writer.add_array(f"{writer.arch}.attention.recurrent_layers", linear)
    writer.add_full_attention_interval(config.interval)
    if n_heads:
        writer.add_nextn_predict_layers(n_heads)


def _write_rope(writer: GGUFWriter, config: Qwen35Config) -> None:
    writer.add_rope_dimension_sections(config.rope_sections)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(int(config.head_dim * config.rotary_factor))
    if config.rope_scaling is not None:
        _write_scaling(writer, config.rope_scaling)


def _write_scaling(writer: GGUFWriter, scaling: RopeScaling) -> None:
    writer.add_rope_scaling_type(RopeScalingType(scaling.kind))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.original_context is not None:
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
    for name, value in scaling.yarn.items():
        getattr(writer, f"add_rope_scaling_{name}")(value)
