"""The recipe's growth of a target: the states and keys that the drafter reads are unchanged."""

from __future__ import annotations

from typing import Any

import pytest

from localmtp.models.embedded import embedded_files

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The embedded target and drafter, read back from their files."""
    from localmtp.models.recipe.growth import read_pair

    files = embedded_files()
    assert files.drafter is not None
    return read_pair(files.target, files.drafter, tmp_path_factory.mktemp("pair"))


def test_a_grown_target_computes_the_states_of_the_embedded_one(pair: tuple[Any, Any]) -> None:
    from localmtp.models.recipe.growth import grow
    from localmtp.models.recipe.target import Shape

    model, drafter = pair
    grown = grow(model, Shape(own_groups=2, sharing_groups=2, mlp=768))
    ids = torch.arange(300, 340)[None]
    with torch.no_grad():
        before = model.model(ids, use_cache=False, return_shared_kv_states=True)
        after = grown.model(ids, use_cache=False, return_shared_kv_states=True)
    assert sum(p.numel() for p in grown.parameters()) > 2 * sum(
        p.numel() for p in model.parameters()
    )
    torch.testing.assert_close(after.last_hidden_state, before.last_hidden_state)
    for kind, (keys, _) in before.shared_kv_states.items():
        torch.testing.assert_close(after.shared_kv_states[kind][0], keys)
    assert drafter.config.backbone_hidden_size == grown.config.hidden_size


def test_a_shortened_drafter_has_the_first_layers_and_the_full_one(pair: tuple[Any, Any]) -> None:
    from localmtp.models.recipe.drafter import shorten

    model, drafter = pair
    short = shorten(drafter, model, 1)
    old, new = drafter.model.layers, short.model.layers
    assert len(new) == 2
    for old_layer, new_layer in ((old[0], new[0]), (old[-1], new[-1])):
        torch.testing.assert_close(
            new_layer.self_attn.q_proj.weight, old_layer.self_attn.q_proj.weight
        )
