"""A control plane that answers what the official command line asks of Colab's: assignments, units, consent, tokens."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.fleet.plane.tunnel import Tunnel
from tests.fleet.plane.vm_box import VmBox

if TYPE_CHECKING:
    from pathlib import Path

XSSI = ")]}'\n"
VARIANTS = {"DEFAULT": 0, "GPU": 1, "TPU": 2}
CONSENT = "https://accounts.example.test/consent"


class Vm:
    """One assignment: the machine, its tunnel, and what the service knows about it."""

    def __init__(self, folder: Path, query: dict[str, str]) -> None:
        self.accelerator = query.get("accelerator", "NONE")
        self.variant = query.get("variant", "DEFAULT")
        self.high_memory = query.get("shape") == "hm"
        self.endpoint = f"{self.accelerator.lower()}-s-{folder.name}"
        self.nbh = query["nbh"]
        self.listed = True
        self.box = VmBox(folder, self.endpoint)
        self.tunnel = Tunnel(self.box)

    def end(self) -> None:
        self.listed = False
        self.box.die()
        self.tunnel.close()


class Service:
    """The far side. Faults, to be set at any time:

    ``list_fails`` how many listings get ``list_status``; ``assign_answers`` what the next assignments get instead of a
    machine, in order: a status code, a body, "made" (a machine is made and the answer says to try again), "made and gone"
    (and says that it failed), or seconds to wait;
    ``hidden`` endpoints that listings leave out so often; ``token_life_s``; ``consents`` what dry runs say;
    ``consent_on_visit`` a person's visit to the address lets the next dry run succeed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vms: list[Vm] = []
        self.list_fails, self.list_status = 0, 500
        self.assign_answers: list[object] = []
        self.hidden: dict[str, int] = {}
        self.token_life_s = 3600
        self.consents = False
        self.units, self.units_per_hour = 87.5, 11.77
        self.logged_in = True
        self.asked: list[str] = []
        self.refreshes = 0
        self._lock = threading.RLock()

    @property
    def assigned(self) -> list[Vm]:
        """Machines that cost units now."""
        return [vm for vm in self.vms if vm.listed]

    def machine_s(self) -> float:
        """Return the seconds of all machines together."""
        return sum(vm.box.lived_s() for vm in self.vms)

    def of(self, endpoint: str) -> Vm:
        return next(vm for vm in self.vms if vm.endpoint == endpoint)

    def reclaim(self, endpoint: str) -> None:
        """Take a machine away as Colab does: without a word."""
        self.of(endpoint).end()

    def foreign(self) -> Vm:
        """Make a machine as the person's own browser does."""
        return self._assign({"nbh": uuid.uuid4().hex, "variant": "DEFAULT"})

    def end(self) -> None:
        for vm in self.vms:
            vm.end()

    def answer(self, method: str, host: str, path: str, query: str, headers: dict[str, str]) -> tuple[int, str]:
        """Return status and body of one request."""
        self.asked.append(f"{method} {path}")
        if host.startswith("oauth2."):
            self.refreshes += 1
            body = {"access_token": uuid.uuid4().hex, "expires_in": 3600, "token_type": "Bearer"}
            return (200, json.dumps(body)) if self.logged_in else (400, '{"error": "invalid_grant"}')
        if not self.logged_in or not headers.get("authorization", "").startswith("Bearer "):
            return 401, ""
        options = {key: values[-1] for key, values in parse_qs(query).items()}
        verb, _, rest = path.removeprefix("/tun/m/").partition("/")
        handler = {
            "assignments": self._list, "assign": self._asked_for, "unassign": self._unassign, "ccu-info": self._usage,
            "credentials-propagation": self._consent,
        }.get(verb)  # fmt: skip
        return handler(method, rest, options) if handler else (404, "")

    def _list(self, _method: str, _rest: str, _query: dict[str, str]) -> tuple[int, str]:
        if self.list_fails:
            self.list_fails -= 1
            return self.list_status, ""
        shown = []
        with self._lock:
            for vm in self.assigned:
                if self.hidden.get(vm.endpoint, 0) > 0:
                    self.hidden[vm.endpoint] -= 1
                else:
                    shown.append(self._shown(vm))
        return 200, XSSI + json.dumps({"assignments": shown})

    def _asked_for(self, method: str, _rest: str, query: dict[str, str]) -> tuple[int, str]:
        with self._lock:
            same = next((vm for vm in self.assigned if vm.nbh == query["nbh"]), None)
            if same and method == "GET":
                return 200, XSSI + json.dumps(self._shown(same))
            if method == "GET":
                variant = query.get("variant", "DEFAULT")
                body = {
                    "acc": query.get("accelerator", "NONE"),
                    "nbh": query["nbh"],
                    "token": "xsrf",
                    "variant": variant,
                }
                return 200, XSSI + json.dumps(body)
            said = self.assign_answers.pop(0) if self.assign_answers else None
        if said == "made" or said == "made and gone":  # noqa: PLR1714, because it may be a body, which has no hash
            self._assign(query)
            return (503 if said == "made" else 500), ""
        if isinstance(said, float):
            time.sleep(said)  # because slowness is the fault
        elif said is not None:
            return (said, "") if isinstance(said, int) else (200, XSSI + json.dumps(said))
        return 200, XSSI + json.dumps(self._shown(self._assign(query)))

    def _assign(self, query: dict[str, str]) -> Vm:
        with self._lock:
            vm = Vm(self.folder / f"{len(self.vms) + 1}-{uuid.uuid4().hex[:6]}", query)
            self.vms.append(vm)
            return vm

    def _unassign(self, method: str, endpoint: str, _query: dict[str, str]) -> tuple[int, str]:
        found = next((vm for vm in self.assigned if vm.endpoint == endpoint), None)
        if found is None:
            return 404, ""
        if method == "GET":
            return 200, XSSI + json.dumps({"token": "xsrf"})
        found.end()
        return 200, XSSI + "{}"

    def _usage(self, _method: str, _rest: str, _query: dict[str, str]) -> tuple[int, str]:
        count = len(self.assigned)
        body = {
            "currentBalance": self.units - self.machine_s() * self.units_per_hour / 3600,
            "consumptionRateHourly": count * self.units_per_hour,
            "assignmentsCount": count,
        }
        return 200, XSSI + json.dumps(body)

    def _consent(self, method: str, endpoint: str, query: dict[str, str]) -> tuple[int, str]:
        if method == "GET":
            return 200, XSSI + json.dumps({"token": "xsrf"})
        if query.get("dryrun") != "true" and self.consents:
            self.of(endpoint).box.credentials.write_text("propagated")
        body = {"success": True} if self.consents else {"success": False, "unauthorized_redirect_uri": CONSENT}
        return 200, XSSI + json.dumps(body)

    def _shown(self, vm: Vm) -> dict[str, object]:
        token = uuid.uuid4().hex
        vm.tunnel.tokens[token] = time.perf_counter() + self.token_life_s
        proxy = {"token": token, "tokenExpiresInSeconds": self.token_life_s, "url": vm.tunnel.url}
        return {
            "accelerator": vm.accelerator, "endpoint": vm.endpoint, "variant": VARIANTS[vm.variant],
            "machineShape": int(vm.high_memory), "runtimeProxyInfo": proxy,
        }  # fmt: skip
