"""`plmsearch models list`: what there is, and what is on this machine."""

from __future__ import annotations

import esm_checkpoints as tiny
import pytest
from support import cli

from plmsearch.embedding.listing import model_rows
from plmsearch.embedding.registry import available_models, model_card


@pytest.fixture(autouse=True)
def _no_weights_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_every_model_has_one_row_that_agrees_with_its_card():
    rows = {str(r["model"]): r for r in model_rows()}
    assert tuple(rows) == available_models()
    for name, row in rows.items():
        card = model_card(name)
        assert row["licence"] == card.licence
        assert row["max_residues"] == card.max_residues
        if row["layers"] != "-":
            assert (row["layers"], row["dim"]) == (card.n_layers, card.dim)


def test_models_that_need_no_download_are_at_hand_and_others_are_not():
    at_hand = {str(r["model"]): r["at_hand"] for r in model_rows()}
    assert at_hand["antiberty"] == at_hand["kmer"] == "yes"
    assert at_hand["esm2_t6_8M_UR50D"] == at_hand["esm2_t48_15B_UR50D"] == "no"
    assert "-" in at_hand.values(), "only a file can tell"


def test_weights_that_are_pointed_to_are_at_hand(tmp_path):
    tiny.write_esm2(tmp_path / "esm2_t6_8M_UR50D.pt")
    at_hand = {str(r["model"]): r["at_hand"] for r in model_rows(tmp_path)}
    assert at_hand["esm2_t6_8M_UR50D"] == "yes"
    assert at_hand["esm2_t12_35M_UR50D"] == "no"


def test_a_pipe_gets_plain_tsv_with_a_header():
    ended = cli("models", "list")
    assert (ended.code, ended.err) == (0, "")
    header, *rows = (line.split("\t") for line in ended.out.splitlines())
    assert header[:4] == ["model", "layers", "dim", "max_residues"]
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0][:4] == ["antiberty", "8", "512", "510"]
    assert {row[0] for row in rows} == set(available_models())
