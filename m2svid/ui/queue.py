"""The queue: one film after the other, and beside them what is quickly looked at."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web
from filelock import FileLock, Timeout

from m2svid.convert.films import result_files
from m2svid.convert.work_folder import work_path
from m2svid.errors import UserError
from m2svid.ui.form import Form, Order
from m2svid.ui.jobs import Job, JobFiles, ended, interrupt, load, memory
from m2svid.ui.requests import apart, body, field

_PAUSE = 0.3  # s between two looks at the jobs
_PATIENCE = 10.0  # s that jobs have to stop when the server does
_LOOKS = ("preview", "comfort")  # are done beside a film


class Queue:
    """Do jobs: one film at a time, and one look at a time beside it.

    The jobs are files, so that the next server continues them. A job's process goes on if the server is
    killed, and the next one finds it at work.

    Args:
        folder: of the jobs.
        form: makes their commands.
        free_memory: called before a job starts.
        downloads: whether jobs may fetch models that are not on this machine.

    Raises:
        UserError: another server is at work there, or a file is damaged.
    """

    def __init__(
        self, folder: Path, form: Form, free_memory: Callable[[], None], downloads: bool = False
    ) -> None:
        self._folder, self._form, self._free_memory = folder, form, free_memory
        self._environment = {} if downloads else {"HF_HUB_OFFLINE": "1"}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "server.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another page is at work in {folder}: use that one, or end it") from error
        self._jobs = {job.number: job for job in load(folder)}
        self._files = {number: JobFiles(folder, number) for number in self._jobs}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._listeners: set[asyncio.Queue[str | None]] = set()
        for job in list(self._jobs.values()):
            self._files[job.number].follow()
            if job.order is None and job.state == "waiting":  # its file could name any command
                self._change(replace(job, state="paused", text="continue it if you know its command"))

    @property
    def busy(self) -> bool:
        """Whether a film is being converted, or a run measured."""
        return any(job.state == "running" and _lane(job) == 0 for job in self._jobs.values())

    def add(self, order: Order) -> Job:
        """Put a film into the queue.

        Raises:
            UserError: a mistake, or its file is there or to be made already.
            Refused: it names a file elsewhere.
        """
        command, chosen = self._form.command(order), self._form.options(order.options)
        files = result_files(command.output, chosen).values() if order.kind == "convert" else ()
        begun = [work_path(file).exists() for file in files]
        if any(file.exists() for file in files) and not (chosen.restart or any(begun)):
            raise UserError(f"{command.output} exists: choose --restart to make it again, or another name")
        for job in self._jobs.values():
            open_order = job.order if job.state not in ("done", "failed") else None
            if open_order and self._form.command(open_order).output == command.output:
                raise UserError(f"{command.output} is in the queue already")
        named = {"convert": "", "preview": f" at {order.at}", "comfort": ": comfort"}[order.kind]
        return self._append(f"{Path(order.film).name}{named}", order=order)

    def add_command(self, words: Sequence[str], title: str) -> int:
        """Put another command into the queue, one that the page itself has made; its number.

        Args:
            words: behind `python -m m2svid`.
            title: for people.
        """
        return self._append(title, words=tuple(words)).number

    def pause(self, number: int) -> None:
        """Let a job wait until it is continued; what is done of it is kept."""
        job = self._job(number)
        if job.state == "running":
            interrupt(job.pid)
        elif job.state == "waiting":
            self._change(replace(job, state="paused"))

    def go_on(self, number: int) -> None:
        """Continue a paused job, or try one again that has failed."""
        job = self._job(number)
        if job.state in ("paused", "failed"):
            self._change(replace(job, state="waiting", text=""))

    def remove(self, number: int) -> None:
        """Take a job out of the queue; the files that it has made stay.

        Raises:
            UserError: it is running.
        """
        if self._job(number).state == "running":
            raise UserError("the job is running: pause it first")
        del self._jobs[number]
        self._files.pop(number).remove()
        self._tell((), removed=number)

    async def tend(self) -> None:
        """Look after the jobs until the task is canceled."""
        while True:
            self._look()
            await asyncio.sleep(_PAUSE)

    async def stop(self) -> None:
        """Tell all jobs to stop, which the next server continues."""
        for listener in self._listeners:
            listener.put_nowait(None)
        running = [job for job in self._jobs.values() if job.state == "running"]
        for job in running:
            interrupt(job.pid)
        until = time.monotonic() + _PATIENCE
        while any(self._files[job.number].alive for job in running) and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self._lock.release()

    def _look(self) -> None:
        for job in [job for job in self._jobs.values() if job.state == "running"]:
            files, process = self._files[job.number], self._processes.get(job.number)
            alive = files.alive  # asked first: what it says last is read then
            files.follow()
            if alive:
                self._tell([job])
                continue
            status = process.wait() if process else None
            self._processes.pop(job.number, None)
            self._change(ended(job, files.progress, status))
        for lane in (0, 1):
            jobs = [job for job in self._jobs.values() if _lane(job) == lane]
            waiting = [job for job in jobs if job.state == "waiting"]
            if waiting and not any(job.state == "running" for job in jobs):
                self._start(waiting[0])

    def _start(self, job: Job) -> None:
        try:
            words = job.words if job.order is None else self._form.command(job.order).words
        except UserError as error:
            self._change(replace(job, state="failed", text=str(error)))
            return
        self._free_memory()
        process = self._files[job.number].start(job, words, self._environment)
        self._processes[job.number] = process
        self._change(replace(job, state="running", pid=process.pid, text="", files=()))

    def _append(self, title: str, **content: Any) -> Job:
        number = max(self._jobs, default=0) + 1
        self._files[number] = JobFiles(self._folder, number)
        return self._change(Job(number, title, **content))

    def _change(self, job: Job) -> Job:
        self._jobs[job.number] = job
        self._files[job.number].save(job)
        self._tell([job])
        return job

    def _job(self, number: int) -> Job:
        if number not in self._jobs:
            raise UserError(f"there is no job {number}")
        return self._jobs[number]

    def _tell(self, jobs: Iterable[Job], removed: int | None = None) -> None:
        if self._listeners:
            text = json.dumps({"jobs": [self._shown(job) for job in jobs], "removed": removed})
            for listener in self._listeners:
                listener.put_nowait(text)

    def _shown(self, job: Job) -> dict[str, Any]:
        progress, order = self._files[job.number].progress, job.order
        shown = {
            "number": job.number,
            "title": job.title,
            "kind": order.kind if order else "command",
            "film": order and order.film,
            "state": job.state,
            "text": job.text,
            "files": list(job.files),
            "layout": self._layout(order) if order else None,
        }
        if job.state == "running":
            left = (progress.total - progress.done) / progress.speed if progress.speed else 0
            numbers = {name: getattr(progress, name) for name in ("stage", "done", "total", "speed")}
            shown |= {**numbers, "left": max(0, round(left)), "memory": memory(job.pid)}
        return shown

    def _layout(self, order: Order) -> str:
        return "sbs" if order.kind == "preview" else self._form.options(order.options).layout

    def routes(self) -> list[web.RouteDef]:
        """The routes of the queue."""

        async def add(request: web.Request) -> web.Response:
            return web.json_response(self._shown(self.add(await read_order(request))))

        async def command(request: web.Request) -> web.Response:
            made = await apart(self._form.command, await read_order(request))
            return web.json_response({"command": str(made), "output": str(made.output)})

        async def change(request: web.Request) -> web.Response:
            name = request.match_info["change"]
            {"pause": self.pause, "continue": self.go_on, "remove": self.remove}[name](_number(request))
            return web.json_response({})

        async def log(request: web.Request) -> web.Response:
            job = self._job(_number(request))
            words = job.words
            with suppress(UserError):  # its film may be gone
                words = self._form.command(job.order).words if job.order else words
            lines = self._files[job.number].told()
            return web.json_response({"words": list(words), "lines": lines})

        return [
            web.post("/api/jobs", add),
            web.post("/api/command", command),
            web.post("/api/jobs/{number:\\d+}/{change:pause|continue|remove}", change),
            web.get("/api/jobs/{number:\\d+}/log", log),
            web.get("/api/jobs", self._events),
        ]

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """All jobs, and then those that change, as server-sent events."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        heard: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(heard)
        known = [self._shown(job) for job in self._jobs.values()]
        text: str | None = json.dumps({"jobs": known, "removed": None, "all": True})
        try:
            while text is not None:
                await answer.write(f"data: {text}\n\n".encode())
                text = await heard.get()
        except ConnectionError:  # the page was closed
            pass
        finally:
            self._listeners.discard(heard)
        return answer


async def read_order(request: web.Request) -> Order:
    """What the page asks for. Raises UserError where something is missing or of the wrong kind."""
    given = await body(request)
    texts = {name: given.get(name) for name in ("at", "output")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise UserError(f"{name} must be text, not {text!r}")
    kind: Any = field(given, "kind", str)
    return Order(kind, field(given, "film", str), field(given, "options", dict), **texts)


def _lane(job: Job) -> int:
    return 1 if job.order and job.order.kind in _LOOKS else 0


def _number(request: web.Request) -> int:
    return int(request.match_info["number"])
