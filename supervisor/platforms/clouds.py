"""Asks the metadata servers of Google Cloud, AWS and Azure whether this machine is about to be taken."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from supervisor.core.events import Notice
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

ANSWER_S, WATCH_S = 1.0, 10
EVERY_S, AWAY_S = 5.0, 60.0  # how often notices are asked for; at the least, where nobody answers
NOTHING, TOO_OLD = 404, 401
LINK_LOCAL = "http://169.254.169.254"
_TOKEN_LIFE = "21600"  # noqa: S105, because it is a number of seconds


def listen(cloud: Cloud, hear: Callable[[Notice], None], pause: Callable[[float], bool]) -> None:
    """Pass on each new notice until ``pause`` says that it is over. Where nobody answers it is asked ever less often."""
    heard: set[str] = set()
    wait_s, failed_s = 0.0, EVERY_S
    while not pause(wait_s):
        try:
            notices = cloud.notices()
        except (OSError, HTTPException, ValueError, TypeError, AttributeError, Refused):  # no such server, or nonsense
            wait_s, failed_s = failed_s, min(2 * failed_s, AWAY_S)
            continue
        for notice in notices:
            if notice.words not in heard:
                heard.add(notice.words)
                hear(notice)
        wait_s, failed_s = EVERY_S, EVERY_S


class Refused(Exception):  # noqa: N818, because it is an answer: 404 is how "nothing" is said
    """The metadata server answered with a status that is no success."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP status {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What the metadata server said, and when by its own clock."""

    body: str
    headers: Message


class Cloud(Protocol):
    """Asks one cloud for notices: ``notices`` returns those that stand now; it may wait for a change a few seconds."""

    def notices(self) -> list[Notice]: ...


class GoogleCloud:
    """instance/preempted changes 30 s before the machine is taken; maintenance-event may come an hour ahead."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        host = environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        self._root = f"http://{host}/computeMetadata/v1/instance"
        self._etag = "0"  # of no value: the first question is answered at once

    def notices(self) -> list[Notice]:
        """Wait a little for the preemption, because it leaves too little time to look for it now and then."""
        waiting = f"?wait_for_change=true&timeout_sec={WATCH_S}&last_etag={self._etag}"
        preempted = self._ask(f"preempted{waiting}", WATCH_S + ANSWER_S)
        self._etag = preempted.headers.get("ETag", "0")
        if preempted.body.strip() == "TRUE":
            return [Notice(30.0, "Google Cloud takes this spot machine back")]
        if self._ask("maintenance-event", ANSWER_S).body.strip() == "TERMINATE_ON_HOST_MAINTENANCE":
            return [Notice(3600.0, "Google Cloud ends it for maintenance of its host", certain=False)]
        return []

    def _ask(self, path: str, within_s: float) -> Answer:
        return ask(f"{self._root}/{path}", {"Metadata-Flavor": "Google"}, within_s=within_s)


class Amazon:
    """spot/instance-action appears two minutes before the end; a rebalance recommendation may come earlier."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._root = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or LINK_LOCAL).rstrip("/")
        self._token = ""

    def notices(self) -> list[Notice]:
        """Ask for both; an answer 404 means that there is none."""
        found = self._found("spot/instance-action")
        if found is not None:
            told = json.loads(found.body)
            words = f"AWS is going to {told.get('action', 'terminate')} this spot machine"
            return [Notice(_left_s(str(told.get("time")), found.headers, 120.0), words)]
        if self._found("events/recommendations/rebalance") is None:
            return []
        return [Notice(120.0, "AWS says that this spot machine is likely to be taken", certain=False)]

    def _found(self, path: str) -> Answer | None:
        if not self._token:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_LIFE}
            self._token = ask(f"{self._root}/latest/api/token", wanted, method="PUT").body.strip()
        try:
            return ask(f"{self._root}/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})
        except Refused as error:
            if error.code == NOTHING:
                return None
            if error.code == TOO_OLD:
                self._token = ""  # the next question gets another
            raise


class Azure:
    """Scheduled events: Preempt comes 30 s ahead or more, Redeploy and Reboot ten minutes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._root = (environ.get("SUPERVISOR_RUN_AZURE_METADATA") or LINK_LOCAL).rstrip("/")
        self._name: str | None = None

    def notices(self) -> list[Notice]:
        """Take those for this machine: a scale set's are told to all of them."""
        if self._name is None:
            named = self._ask("instance/compute/name?api-version=2021-02-01&format=text")
            self._name = named.body.strip()
        found = self._ask("scheduledevents?api-version=2020-07-01")
        events = json.loads(found.body).get("Events", [])
        mine = [each for each in events if self._name in (each.get("Resources") or [self._name])]
        return [notice for each in mine if (notice := self._read(each, found.headers))]

    def _read(self, event: Mapping[str, Any], headers: Message) -> Notice | None:
        kind, at = event.get("EventType", ""), str(event.get("NotBefore") or "")
        if kind in {"Preempt", "Terminate"}:
            return Notice(_left_s(at, headers, 30.0), "Azure takes this machine back")
        if kind in {"Redeploy", "Reboot"}:
            words = f"Azure is going to {kind.lower()} this machine"
            return Notice(_left_s(at, headers, 600.0), words, certain=False)
        return None

    def _ask(self, path: str) -> Answer:
        return ask(f"{self._root}/metadata/{path}", {"Metadata": "true"})


def ask(url: str, headers: Mapping[str, str], *, method: str = "GET", within_s: float = ANSWER_S) -> Answer:
    """Ask the metadata server, which no proxy leads to. Raises Refused, or OSError if it does not answer in time."""
    direct = build_opener(ProxyHandler({}))
    try:
        with direct.open(Request(url, headers=dict(headers), method=method), timeout=within_s) as answer:  # noqa: S310
            return Answer(answer.read().decode("utf-8", "replace"), answer.headers)
    except HTTPError as error:
        error.close()
        raise Refused(error.code) from error
    except URLError as error:
        raise OSError(str(error.reason)) from error


def _left_s(at: str, headers: Message, otherwise_s: float) -> float:
    """Return the seconds from the server's own time to ``at``, because this machine's clock may be wrong."""
    try:
        then = datetime.fromisoformat(at) if at[:1].isdigit() else parsedate_to_datetime(at)
        return max(0.0, (then - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (ValueError, TypeError, IndexError):
        return otherwise_s


READERS: dict[str, Callable[[Mapping[str, str]], Cloud]] = {"google": GoogleCloud, "aws": Amazon, "azure": Azure}
