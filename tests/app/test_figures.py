from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.services import figures
from app.services.figures import End, percentile, summarise

DAY = timedelta(days=1)
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
UNTIL = SINCE + 10 * DAY
HERE = (1, "prod", "app1")


def _end(day: float, status: str = "succeeded", seconds: float = 10, kind: str = "deploy", host: str = "app1") -> End:
    return End((1, "prod", host), kind, status, seconds, SINCE + day * DAY)


def test_figures_of_no_deployments_are_null() -> None:
    found = summarise([], SINCE, UNTIL, complete=True)
    assert (found.deployments, found.deployments_per_day, found.days) == (0, 0, [])
    for value in (found.change_failure_rate, found.median_seconds, found.p95_seconds, found.median_seconds_to_restore):
        assert value is None


def test_frequency_counts_what_went_live_and_failures_are_a_share_of_all_deploys() -> None:
    ends = [_end(1), _end(2, "failed"), _end(3, "rolled_back"), _end(3.1, kind="rollback"), _end(4)]
    found = summarise(ends, SINCE, UNTIL, complete=True)
    assert found.deployments == 4
    assert found.deployments_per_day == pytest.approx(0.3)
    assert found.change_failure_rate == pytest.approx(0.5)


def test_durations_are_those_of_successful_deployments() -> None:
    ends = [_end(1, seconds=n) for n in range(1, 21)] + [_end(1, "failed", seconds=1000)]
    found = summarise(ends, SINCE, UNTIL, complete=True)
    assert (found.median_seconds, found.p95_seconds) == (10.5, 19)


def test_time_to_restore_is_from_the_first_failure_to_the_next_success() -> None:
    ends = [
        _end(1, "rolled_back"),
        _end(1.25, "failed"),
        _end(1.3, host="app2"),
        _end(1.4, "failed", kind="rollback"),  # the way back that failed is not another failure of a change
        _end(1.5, kind="rollback"),
        _end(2, "failed"),
        _end(2.25),
        _end(3, "failed"),  # nothing has restored it yet
    ]
    found = summarise(ends, SINCE, UNTIL, complete=True)
    assert found.median_seconds_to_restore == pytest.approx((0.5 + 0.25) / 2 * DAY.total_seconds())


def test_days_are_counted_in_utc_by_outcome() -> None:
    ends = [_end(0.1, seconds=4), _end(0.9, "failed", seconds=50), _end(0.95, seconds=6), _end(2, "rolled_back")]
    ends.append(_end(2.5, kind="rollback", seconds=3))
    first, second = summarise(ends, SINCE, UNTIL, complete=True).days
    assert (first.succeeded, first.failed, first.rolled_back, first.median_seconds) == (2, 1, 0, 5)
    assert (second.day - first.day, second.rolled_back, second.median_seconds) == (2 * DAY, 1, 3)
    assert second.succeeded == 0, "a rollback is no deploy"


@pytest.mark.parametrize(("values", "expected"), [([], None), ([7], 7), ([3, 1, 2], 3), (list(range(1, 101)), 95)])
def test_a_percentile_is_one_of_the_values(values: list[float], expected: float | None) -> None:
    assert percentile(values, 95) == expected


async def test_figures_can_be_filtered_by_window_service_and_environment(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("billing", "shop"):
        await client.post("/api/v1/services", json={"name": name, "repository_url": f"https://git.example.com/{name}"})
    now = datetime.now(UTC)
    for service, environment, ago in (
        ("billing", "prod", 1),
        ("billing", "prod", 20),
        ("billing", "staging", 2),
        ("shop", "prod", 3),
    ):
        at = now - ago * DAY
        wanted = {
            "service": service, "environment": environment, "version": "v1", "commit": "a" * 40, "actor": "ci",
            "started_at": at.isoformat(),
        }  # fmt: skip
        path = (await client.post("/api/v1/deployments", json=wanted)).headers["location"]
        finished = {"status": "succeeded", "finished_at": (at + timedelta(seconds=5)).isoformat()}
        await client.post(f"{path}/finish", json=finished)
    # One that has not ended counts nowhere.
    await client.post("/api/v1/deployments", json={**wanted, "version": "v2"})

    async def count(**where: str | int) -> int:
        found = (await client.get("/api/v1/figures", params=where)).json()
        assert found["complete"]
        assert found["median_seconds"] == 5
        number: int = found["deployments"]
        return number

    assert [await count(), await count(days=7), await count(service="billing"), await count(environment="staging")] == [
        4, 3, 3, 1,
    ]  # fmt: skip
    monkeypatch.setattr(figures, "MOST", 2)
    bounded = (await client.get("/api/v1/figures")).json()
    assert (bounded["deployments"], bounded["complete"]) == (2, False)
    assert (await client.get("/api/v1/figures", params={"days": 367})).status_code == 422
