import ast
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch._dynamo.testing import CompileCounter

from perf.full_size import LLADA_8B, write_llada
from src import modeling_llada
from src.checkpoint import CheckpointError
from src.configuration_DIFFA import ROOT, LLaDAConfig
from src.lora import read_lora
from src.modeling_llada import LLaDAModel, RMSNorm, gated, project_by, rotary_tables, rotate
from tests.conftest import GOLDEN, GOLDEN2

D = 24
close = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def llada() -> LLaDAModel:
    return LLaDAModel.from_pretrained(GOLDEN / "llada", torch_dtype=torch.float32)


def logits_of(model, input_ids, attention_mask=None, position_ids=None):
    return model.project(model(model.embed(input_ids), attention_mask, position_ids))


def test_logits_match_the_published_code(llada, golden):
    torch.testing.assert_close(logits_of(llada, golden["llada.input_ids"]), golden["llada.logits"], **close)


def test_padded_logits_match_the_published_code(llada, golden):
    mask = golden["llada.attention_mask"]
    logits = logits_of(llada, golden["llada.input_ids"], mask)
    torch.testing.assert_close(logits[mask.bool()], golden["llada.logits_masked"][mask.bool()], **close)


def test_left_padding_with_its_own_positions_changes_nothing(llada, golden):
    ids = golden["llada.input_ids"][:1]
    padded = torch.cat((torch.full((1, 5), llada.config.pad_token_id), ids), dim=1)
    mask = torch.ones_like(padded)
    mask[:, :5] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    torch.testing.assert_close(logits_of(llada, padded, mask, positions)[:, 5:], logits_of(llada, ids), **close)


def test_attention_looks_both_ways(llada, golden):
    ids = golden["llada.input_ids"][:1].clone()
    before = logits_of(llada, ids)[0, 0]
    ids[0, -1] = (ids[0, -1] + 1) % 400
    assert (logits_of(llada, ids)[0, 0] - before).abs().max() > 1e-3


def test_wanted_columns_are_those_of_the_whole(llada, golden):
    embeds, mask = llada.embed(golden["llada.input_ids"]), golden["llada.attention_mask"]
    whole = llada(embeds, mask)
    torch.testing.assert_close(llada(embeds, mask, wanted=slice(3, 7)), whole[:, 3:7], **close)


def test_a_pass_over_some_columns_attends_to_the_kept_ones(llada, golden):
    embeds = llada.embed(golden["llada.input_ids"])
    positions = torch.arange(embeds.shape[1]).expand(embeds.shape[:2])
    caches, whole = llada.new_caches(embeds), llada(embeds)
    torch.testing.assert_close(llada(embeds, caches=caches), whole, **close)
    some = llada(embeds[:, 4:9], None, positions[:, 4:9], caches=caches, start=4)
    torch.testing.assert_close(some, whole[:, 4:9], **close)  # nothing changed, so neither do they
    torch.testing.assert_close(
        llada(embeds[:, 4:9], None, positions[:, 4:9], slice(1, 3), caches, start=4), whole[:, 5:7], **close
    )
    # the first layer's new keys and values take the place of the old ones, and no others do
    changed = embeds.clone()
    changed[:, 4:9] = changed[:, 4:9].flip(-1)
    kept = [(cache.keys.clone(), cache.values.clone()) for cache in caches]
    llada(changed[:, 4:9], None, positions[:, 4:9], caches=caches, start=4)
    fresh = llada.new_caches(changed)
    llada(changed, caches=fresh)
    torch.testing.assert_close(caches[0].keys, fresh[0].keys, **close)
    torch.testing.assert_close(caches[0].values, fresh[0].values, **close)
    for cache, (keys, values) in zip(caches, kept, strict=True):
        for now, before in ((cache.keys, keys), (cache.values, values)):
            assert torch.equal(now[:, :, :4], before[:, :, :4]) and torch.equal(now[:, :, 9:], before[:, :, 9:])
            assert not torch.allclose(now[:, :, 4:9], before[:, :, 4:9])


def test_the_first_rows_of_a_cache_are_the_same_memory(llada, golden):
    cache = llada.new_caches(llada.embed(golden["llada.input_ids"]))[0]
    cache.rows(1).keys.fill_(3.0)
    assert cache.rows(1).keys.shape[0] == 1 and (cache.keys[0] == 3.0).all()


def test_rms_norm_normalises_in_float32_then_scales():
    norm = RMSNorm(4, eps=0.0).bfloat16()
    norm.weight.data.fill_(3.0)
    x = torch.tensor([[300.0, -300.0, 300.0, -300.0]], dtype=torch.bfloat16)  # its squares' sum needs float32
    assert norm(x).tolist() == [[3.0, -3.0, 3.0, -3.0]]
    assert norm(x).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_is_the_published_arithmetic_to_the_bit(dtype):
    """Rounded before the weight scales it, and once."""
    x, norm = torch.randn(5, 40).to(dtype) * 7, RMSNorm(40, eps=1e-5).to(dtype)
    torch.nn.init.normal_(norm.weight)
    normalised = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)
    assert torch.equal(norm(x), norm.weight * normalised.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_that_of_complex_numbers(dtype):
    """Element i and element i + d / 2 are the two parts of a number; computed in float32, rounded once."""
    x, positions = torch.randn(2, 3, 6, 8).to(dtype), torch.tensor([[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 7]])
    angles = positions[:, None, :, None] * 500.0 ** -(torch.arange(4) / 4)  # [B, 1, T, d / 2]
    turned = torch.complex(*x.float().chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat((turned.real, turned.imag), dim=-1).to(dtype)
    torch.testing.assert_close(rotate(x, *rotary_tables(positions, 8, 500.0)), expected, rtol=1e-5, atol=1e-6)


def test_compiled_blocks_compute_the_same(golden, monkeypatch):
    """With keys and values kept; after two sizes, programs are general enough to serve any."""
    compile_module = torch.nn.Module.compile
    programs = CompileCounter()  # traces and counts, and leaves out the slow part: making machine code
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m, **kw: compile_module(m, backend=programs, **kw))
    llada = LLaDAModel.from_pretrained(GOLDEN / "llada", torch_dtype=torch.float32)
    embeds, mask = llada.embed(golden["llada.input_ids"]).repeat(2, 1, 1), golden["llada.attention_mask"].repeat(2, 1)
    sizes = [(4, embeds.shape[1]), (3, 8), (2, 9), (4, 7)]
    expected = [llada(embeds[:rows, :end], mask[:rows, :end]) for rows, end in sizes]
    llada.compile_blocks()
    counts = []
    for (rows, end), whole in zip(sizes, expected, strict=True):
        some = embeds[:rows, :end].contiguous()
        torch.testing.assert_close(llada(some, mask[:rows, :end], caches=llada.new_caches(some)), whole, **close)
        counts.append(programs.frame_count)
    assert 0 < counts[1] == counts[-1]


def test_nothing_else_reaches_into_the_model():
    """`state_dict` has the public checkpoint's names; code goes by the methods, which other LLMs can have as well."""
    root = GOLDEN.parents[1]
    rooms = ("src", "evaluation", "serving", "perf", "demo", "tests")
    files = [*root.glob("*.py"), *(path for room in rooms for path in (root / room).rglob("*.py"))]

    def reaches_in(source: str) -> bool:
        return any(
            isinstance(node, ast.Attribute) and node.attr == "transformer" for node in ast.walk(ast.parse(source))
        )

    inside = [path.relative_to(root).as_posix() for path in files if reaches_in(path.read_text())]
    assert inside == ["src/modeling_llada.py"]


@pytest.fixture
def copy(tmp_path):
    """A writable copy of the golden LLaDA checkpoint."""
    folder = tmp_path / "llada"
    shutil.copytree(GOLDEN / "llada", folder)
    return folder


def shard(folder) -> None:
    """Turn the single file into two shards with an index, as the public 8B checkpoint comes."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_shards_equal_the_single_file(copy, llada):
    shard(copy)
    loaded = LLaDAModel.from_pretrained(copy, torch_dtype=torch.float32)
    assert loaded.state_dict().keys() == llada.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in llada.state_dict().items())


def test_loading_freezes_casts_and_leaves_nothing_on_meta(copy):
    shard(copy)
    loaded = LLaDAModel.from_pretrained(copy, torch_dtype=torch.bfloat16)
    parameters = list(loaded.parameters())
    assert {p.dtype for p in parameters} == {torch.bfloat16}
    assert {p.device.type for p in parameters} == {"cpu"}
    assert not any(p.requires_grad for p in parameters) and not loaded.training


def test_a_missing_shard_is_named(copy):
    shard(copy)
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="shards that are not there: model-00002-of-00002"):
        LLaDAModel.from_pretrained(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.transformer.ln_f.weight"), "missing: model.transformer.ln_f.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda w: w.update({"model.transformer.ln_f.weight": torch.zeros(3)}),
            r"ln_f.weight: the checkpoint has shape \(3,\), the model expects \(64,\)",
        ),
    ],
)
def test_wrong_weights_are_named(copy, change, message):
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        LLaDAModel.from_pretrained(copy)


def test_tied_and_grouped_variants_compute():
    """Other checkpoints of the family: output tied to the embedding, fewer key/value heads than query heads."""
    fields = json.loads((GOLDEN / "llada" / "config.json").read_text()) | {"weight_tying": True, "n_kv_heads": 2}
    torch.manual_seed(0)
    model = LLaDAModel(LLaDAConfig.from_dict(fields)).eval()
    assert "model.transformer.ff_out.weight" not in model.state_dict()
    attention = model.blocks[0]
    assert attention.k_proj.weight.shape == (32, 64)
    # grouped attention equals full attention whose key/value heads are repeated
    full = LLaDAModel(LLaDAConfig.from_dict(fields | {"n_kv_heads": 4})).eval()
    state = model.state_dict()
    for name, weight in state.items():
        if "k_proj" in name or "v_proj" in name:
            state[name] = weight.unflatten(0, (2, 16)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(logits_of(model, ids), logits_of(full, ids), rtol=1e-5, atol=1e-5)


# --- LoRA factors merged as the weights load -------------------------------------------------------------------------


def test_the_llms_file_stays_as_it_is(tmp_path):
    """Though its weights are mapped into memory and overwritten there."""
    shutil.copytree(GOLDEN2 / "llada", tmp_path / "llada")
    file = tmp_path / "llada" / "model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    lora = read_lora(GOLDEN2 / "diffa2_stage4")
    one = LLaDAModel.from_pretrained(file.parent, torch.float32, lora=lora)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    two = LLaDAModel.from_pretrained(file.parent, torch.float32, lora=lora)
    plain = LLaDAModel.from_pretrained(file.parent, torch.float32)
    weights = [llm.get_parameter("model.transformer.blocks.0.q_proj.weight") for llm in (one, two, plain)]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])


SIZE = {"d_model": 1024, "n_layers": 6, "n_heads": 8, "n_kv_heads": 8, "mlp_hidden_size": 3072, "embedding_size": 1000}
IDS = {"vocab_size": 1000, "mask_token_id": 999, "eos_token_id": 998, "pad_token_id": 998}
MEASURE = """
import sys, torch
from perf.measure import peak_bytes
from src.lora import Factors, LoRA
from src.modeling_llada import LLaDAModel
sizes = {"q_proj": 1024, "k_proj": 1024, "v_proj": 1024, "ff_proj": 3072, "up_proj": 3072}
lora = LoRA({f"model.transformer.blocks.{i}.{name}.weight": Factors(torch.randn(8, 1024), torch.randn(out, 8))
             for i in range(6) for name, out in sizes.items()})
def load():
    model = LLaDAModel.from_pretrained(sys.argv[1], torch.bfloat16, lora=lora)
    for parameter in model.parameters():
        parameter.sum()  # reads all of it
LLaDAModel.from_pretrained("tests/golden2/llada")  # brings in what any model takes
lora.merge("model.transformer.blocks.0.q_proj.weight", torch.zeros(1024, 1024), torch.float32)
print(peak_bytes(load, torch.device("cpu")))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_weights_that_are_merged_never_stand_in_memory_twice(tmp_path):
    """Two thirds of them get an update."""
    size = write_llada(tmp_path, LLADA_8B | SIZE | IDS)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0.9 < int(output) / size < 1.1


def test_gating_takes_no_memory_where_no_gradient_is_wanted():
    gate, up = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    expected = torch.nn.functional.silu(gate) * up
    assert torch.equal(gated(gate, up), expected)
    with torch.no_grad():
        result = gated(gate, up)
    assert torch.equal(result, expected) and result.data_ptr() == gate.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gated_silu_keeps_its_inputs_alone_and_has_their_gradients(dtype):
    torch.manual_seed(0)
    gate, up = (torch.randn(3, 5, dtype=dtype).requires_grad_() for _ in range(2))
    upstream, kept = torch.randn(3, 5, dtype=dtype), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        ours = gated(gate, up)
    assert [tensor.data_ptr() for tensor in kept] == [gate.data_ptr(), up.data_ptr()]
    plain = torch.nn.functional.silu(gate) * up
    assert torch.equal(ours, plain)
    for found, expected in zip(*(torch.autograd.grad(x, (gate, up), upstream) for x in (ours, plain)), strict=True):
        torch.testing.assert_close(found, expected)


# --- the vocabulary ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_tokens", [63, 64, 65, 640, 1000])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 15, 16, 40])
def test_a_projection_in_slices_is_the_projection(num_rows, num_tokens):
    torch.manual_seed(0)
    hidden_states, weight = torch.randn(num_rows, D), torch.randn(num_tokens, D)
    expected = F.linear(hidden_states.double(), weight.double()).float()
    torch.testing.assert_close(project_by(hidden_states, weight), expected, rtol=1e-5, atol=1e-5)


def test_a_projection_takes_any_number_of_dimensions_and_strides():
    hidden_states, weight = torch.randn(2, D, 5).mT, torch.randn(130, D)
    assert project_by(hidden_states, weight).shape == (2, 5, 130)
    torch.testing.assert_close(project_by(hidden_states, weight), F.linear(hidden_states, weight))


def test_few_rows_of_float32_on_a_cpu_come_in_slices_and_no_others(monkeypatch):
    sizes = []
    monkeypatch.setattr(torch, "bmm", lambda x, y, bmm=torch.bmm: (sizes.append(tuple(x.shape)), bmm(x, y))[1])
    weight = torch.randn(640, D)
    for num_rows in (1, 2, 15, 16):
        project_by(torch.randn(num_rows, D), weight)
    project_by(torch.randn(4, D).bfloat16(), weight.bfloat16())
    assert sizes == [(10, 2, D), (10, 15, D)]
    monkeypatch.setattr(modeling_llada, "by_cache", lambda tensor: False)  # as on a GPU
    project_by(torch.randn(4, D), weight)
    assert len(sizes) == 2
