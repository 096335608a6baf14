"""Reports that wait: nothing that befalls them harms a deployment, and none is lost that could be kept."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.cli import status
from slipway.observers import logbook, outbox
from slipway.records import journal
from slipway.release import build

from .fake_logbook import TOKEN, Logbook, connect, notes, waiting
from .fakes import V1, V2, Host, deployed, request, switched


def _disk_is_full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_with_no_room_for_the_report_it_is_sent_all_the_same(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_atomically

    def only_outside(path: Path, *arguments: Any) -> None:
        if path.parent == host.settings.outbox:
            _disk_is_full()
        write(path, *arguments)

    monkeypatch.setattr(files, "write_atomically", only_outside)
    deployed(host, V1)
    assert told.ends() == [(1, "succeeded")]
    assert notes(host)[-1] == f"{host.settings.outbox} could not be written: No space left on device."


def test_an_outbox_that_is_none_fails_no_deploy(host: Host, told: Logbook) -> None:
    host.settings.outbox.write_text("a file")
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert told.ends() == []


def test_a_deploy_that_was_undone_for_a_full_disk_is_told(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(host, V1)
    monkeypatch.setattr(build, "build", _disk_is_full)
    monkeypatch.setattr(journal, "append", _disk_is_full)
    with pytest.raises(FailedError):
        deployed(host, V2)
    assert told.ends()[-1] == (2, "failed")
    assert "No space left on device" in told.told[-1][1]["detail"]


def test_a_process_that_dies_before_it_told_the_end_leaves_it_to_the_next(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    switched(host)
    with monkeypatch.context() as killed:
        killed.setattr(logbook.Logbook, "closed", lambda *_: "")
        host.watch_reason = "it is slow"
        with pytest.raises(FailedError):
            host.engine.finish("alice")
    assert logbook.waiting(host.settings)[0] == 1
    assert logbook.flush(host.settings).sent == 1
    assert told.ends()[-1] == (2, "rolled_back")


def test_a_report_whose_end_nobody_knows_is_not_kept_for_ever(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(logbook.Logbook, "closed", lambda *_: "")
        deployed(host, V1)
    host.settings.journal.unlink()
    assert logbook.waiting(host.settings) == (0, "")
    assert waiting(host) == 1  # who only looks deletes nothing
    assert logbook.flush(host.settings) == logbook.Delivery()
    assert waiting(host) == 0
    assert told.ends() == []


def test_a_report_that_was_half_written_long_ago_is_gone_and_one_that_is_at_work_stays(
    host: Host, told: Logbook
) -> None:
    deployed(host, V1)
    assert told.ends() == [(1, "succeeded")]
    killed, at_work = (host.settings.outbox / f".20261125-{name}.json.1a2b3c4d.new" for name in ("killed", "at-work"))
    for path in (killed, at_work):
        path.touch()
    os.utime(killed, (0, 0))
    assert logbook.flush(host.settings) == logbook.Delivery()
    assert (killed.exists(), at_work.exists()) == (False, True)


def test_a_deployment_under_way_is_not_counted_as_waiting(host: Host, told: Logbook) -> None:
    host.engine.stage(request(V1), None)
    assert logbook.waiting(host.settings)[0] == 0
    assert logbook.flush(host.settings) == logbook.Delivery()
    host.engine.cut_over(None)
    assert (told.ends(), len(told.keys)) == ([(1, "succeeded")], 1)


def test_what_is_no_text_is_told_as_what_is(host: Host, told: Logbook) -> None:
    host.watch_reason = "it answered \udcff\0"
    with pytest.raises(FailedError):
        host.engine.deploy(request(V1, owner="al\udcffice\x9b"), None)
    begun, ended = told.told[0][1], told.told[-1][1]
    assert begun["actor"] == "al ice "
    assert "it answered ?." in ended["detail"]


def test_a_clock_that_was_set_back_ends_no_deployment_before_it_began(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.engine.stage(request(V1), None)
    monkeypatch.setattr(journal, "now", lambda: "2020-01-01T00:00:00.000+00:00")
    host.engine.cut_over(None)
    assert told.told[-1][1]["finished_at"] == told.told[0][1]["started_at"]


def test_only_the_newest_reports_are_kept(host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEPT", 2)
    host.settings.logbook_token_file.unlink()
    for version in (V1, V2, V1, V2):
        deployed(host, version)
    assert waiting(host) == 2
    assert any("1 old report(s) to the Logbook were dropped, 2 are kept." in note for note in notes(host))
    assert told.told == []


def test_damaged_reports_are_passed_over(host: Host, told: Logbook) -> None:
    host.settings.outbox.mkdir()
    for name, content in (("1-a", ""), ("2-b", "{}"), ("3-c", "[1]"), ("4-d", '{"key": '), ("5-e", "\xff")):
        (host.settings.outbox / f"{name}.json").write_bytes(content.encode("latin-1"))
    deployed(host, V1)
    assert told.ends() == [(1, "succeeded")]


@pytest.mark.parametrize("content", ["lb_0123_secret\nX-Evil: 1", "lb_ünï", "lb 0123"])
def test_what_is_no_token_is_neither_sent_nor_shown(host: Host, told: Logbook, content: str) -> None:
    host.settings.logbook_token_file.write_text(content)
    deployed(host, V1)
    assert logbook.waiting(host.settings)[1] == f"what is in {host.settings.logbook_token_file} is no token"
    assert "lb" not in "".join(notes(host)).replace("logbook", "")
    assert told.told == []


def test_a_certificate_that_nobody_vouches_for_ends_it(
    host: Host, told: Logbook, tmp_path: Path, certificate: tuple[Path, Path, Path]
) -> None:
    chain, key, authority = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    told.socket = context.wrap_socket(told.socket, server_side=True)
    connect(host, told.url.replace("http:", "https:"))
    deployed(host, V1)
    assert "does not answer: its certificate cannot be trusted" in logbook.waiting(host.settings)[1]
    assert told.told == []
    vouched = replace(host.settings, logbook_ca=str(authority))
    assert logbook.flush(vouched).sent == 1
    absent = replace(host.settings, logbook_ca=str(tmp_path / "absent.pem"))
    assert "absent.pem cannot be used: No such file" in logbook.flush(absent).problem


def test_status_says_how_many_reports_wait_and_why(host: Host, told: Logbook) -> None:
    host.settings.logbook_token_file.unlink()
    deployed(host, V1)
    line = next(line for line in status.render(status.gather(host.settings)).splitlines() if line.startswith("logbook"))
    token = host.settings.logbook_token_file
    assert " ".join(line.split()) == f"logbook 1 report waits (no token is in {token}): slipway report logbook"
    token.write_text(TOKEN)
    assert logbook.flush(host.settings).sent == 1
    assert "\nlogbook" not in status.render(status.gather(host.settings))
    assert len(told.keys) == 1


def _change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def _only(host: Host) -> Path:
    [path] = host.settings.outbox.glob("*.json")
    return path


@pytest.mark.usefixtures("told")
def test_a_report_has_the_number_of_its_format(host: Host) -> None:
    host.engine.stage(request(V1), None)
    assert json.loads(_only(host).read_text())["format"] == outbox.FORMAT == 1


def test_a_report_of_before_there_were_formats_is_read(host: Host, told: Logbook) -> None:
    host.engine.stage(request(V1), None)
    content = json.loads(_only(host).read_text())
    del content["format"]
    _only(host).write_text(json.dumps(content))
    told.told.clear()
    host.engine.cut_over(None)
    assert told.ends() == [(1, "succeeded")]
    assert (waiting(host), len(told.keys)) == (0, 1)


def test_fields_that_are_not_known_are_kept_and_not_sent(host: Host, told: Logbook) -> None:
    host.engine.stage(request(V1), None)
    _change(_only(host), colour="teal")
    host.settings.logbook_token_file.unlink()
    host.engine.cut_over(None)
    content = json.loads(_only(host).read_text())
    assert (content["colour"], content["end"]["status"]) == ("teal", "succeeded")
    host.settings.logbook_token_file.write_text(TOKEN)
    assert logbook.flush(host.settings) == logbook.Delivery(sent=1)
    assert not any("colour" in body for _, body in told.told)


def test_a_report_of_a_newer_version_is_refused_in_a_sentence_and_left_as_it_is(host: Host, told: Logbook) -> None:
    host.engine.stage(request(V1), None)
    newer = _only(host)
    _change(newer, format=2, begin={"what": "nobody knows"})
    content = newer.read_text()
    told.told.clear()
    host.engine.cut_over(None)
    sentence = (
        f"{newer} was written by a newer version of Slipway (format 2; this version reads up to 1). "
        "Run site.yml with the newer version."
    )
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert notes(host) == [f"The deployment was not reported: {sentence}"]
    assert (newer.read_text(), told.told) == (content, [])
    assert logbook.waiting(host.settings)[0] == 1
    deployed(host, V2)
    assert (newer.read_text(), [status for _, status in told.ends()]) == (content, ["succeeded"])
    assert f"1 report waits for the Logbook ({sentence.rstrip('.')});" in notes(host)[-1]
    assert logbook.flush(host.settings) == logbook.Delivery(waiting=1, problem=sentence.rstrip("."))
