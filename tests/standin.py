"""A loopback stand-in for the W&B server: enough of its protocol for the real client, all it receives kept.

``POST /graphql`` answers by operation name, ``POST /files/<entity>/<project>/<run>/file_stream`` takes history, summary
and the exit, ``PUT /up/...`` takes files, ``GET /up/...`` gives them back. What arrived is in :attr:`StandIn.runs`,
:attr:`StandIn.artifacts` and :attr:`StandIn.uploads`. :attr:`StandIn.mood` makes it behave badly:

* ``"up"``: answers;
* ``"drop"``: closes every connection without an answer;
* ``"stall"``: takes requests and keeps silent until the mood changes;
* ``"deny"``: 401 for the key;
* ``"forbid"``: 403 for writing to the project.

An operation that it does not know is answered with an error and listed in :attr:`StandIn.faults`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef" * 3
ENTITY = "team"
TIME = "2026-01-01T00:00:00Z"
WRITES = {"UpsertBucket", "CreateArtifact", "CreateRunFiles"}


@dataclass
class StoredRun:
    """What has arrived of one run."""

    id: str
    project: str
    entity: str
    fields: dict[str, Any] = field(default_factory=dict)  # displayName, config, tags, notes, groupName, jobType, ...
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    complete: bool = False
    used: list[str] = field(default_factory=list)  # ids of artifacts

    @property
    def config(self) -> dict[str, Any]:
        """The config without W&B's wrapping of each value."""
        content = json.loads(self.fields.get("config") or "{}")
        return {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in content.items()}


@dataclass
class StoredArtifact:
    """What has arrived of one version of an artifact."""

    id: str
    collection: str
    type: str
    version: int
    digest: str
    run: str | None
    project: str
    metadata: dict[str, Any]
    aliases: set[str]
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    ttl: int | None = None


class StandIn:
    """Context manager around the server; :meth:`env` has the variables that lead a client to it."""

    def __init__(self, port: int = 0) -> None:
        self.mood = "up"
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.uploads: dict[str, bytes] = {}
        self.operations: list[str] = []
        self.faults: list[str] = []  # what it did not know or could not read
        self.views: list[dict[str, Any]] = []  # workspaces
        self.bodies: list[bytes] = []  # everything that came, for searches
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.mood = "drop"
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self, key: str = KEY) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": key, "WANDB_ENTITY": ENTITY, "WANDB_MODE": "online"}

    # what each operation of the client gets as an answer

    def answer(self, operation: str, v: dict[str, Any]) -> dict[str, Any]:
        method = getattr(self, f"_on_{operation}", None)
        if method is None:
            raise NotImplementedError(operation)
        with self._lock:
            return method(v)

    def _on_Viewer(self, v: dict) -> dict:
        who = {"id": "VXNlcjox", "entity": ENTITY, "username": "ann", "name": "ann", "email": "a@b.c", "flags": "{}"}
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": who | {"teams": teams, "admin": False, "apiKeys": {"edges": []}, "deletedAt": None}}

    _on_GetViewer = _on_Viewer
    _on_GetDefaultEntity = _on_Viewer

    def _on_Run(self, v: dict) -> dict:
        run = self.runs.get(v["name"])
        return {"project": {"internalId": "1", "run": self._public(run) if run else None}}

    _on_GetRun = _on_Run
    _on_GetLightRun = _on_Run

    def _public(self, run: StoredRun) -> dict:
        state = "finished" if run.exit_code == 0 else "failed" if run.complete else "running"
        return self._bucket(run) | {
            "tags": run.fields.get("tags") or [], "group": run.fields.get("groupName"), "state": state,
            "jobType": run.fields.get("jobType"), "commit": None, "readOnly": False, "heartbeatAt": TIME,
            "createdAt": TIME, "notes": run.fields.get("notes"), "systemMetrics": "{}",
            "summaryMetrics": json.dumps(run.summary), "user": {"name": "ann", "username": "ann"}, "historyKeys": None,
        }  # fmt: skip

    def _on_ProjectArtifacts(self, v: dict) -> dict:
        found = [a for a in self.artifacts.values() if a.collection == v["collection"] and a.state == "COMMITTED"]
        if not any(a.collection == v["collection"] for a in self.artifacts.values()):
            return {"project": {"artifactType": {"artifactCollection": None}}}
        edges = [{"version": f"v{a.version}", "node": self._node(a)} for a in found]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        artifacts = {"totalCount": len(found), "pageInfo": page, "edges": edges}
        return {
            "project": {
                "artifactType": {"artifactCollection": {"__typename": "ArtifactSequence", "artifacts": artifacts}}
            }
        }

    def _collection(self, artifact: StoredArtifact, kind: str) -> dict:
        place = {"id": "P", "internalId": "1", "name": artifact.project, "entity": {"name": ENTITY}}
        return {"__typename": kind, "name": artifact.collection, "project": place}

    def _node(self, artifact: StoredArtifact) -> dict:
        aliases = [
            {"__typename": "ArtifactAlias", "id": f"{artifact.id}{a}", "alias": a,
             "artifactCollection": self._collection(artifact, "ArtifactSequence")}
            for a in sorted(artifact.aliases | {f"v{artifact.version}"})
        ]  # fmt: skip
        return {
            "__typename": "Artifact", "id": artifact.id, "versionIndex": artifact.version,
            "artifactSequence": self._collection(artifact, "ArtifactSequence"), "description": None,
            "artifactType": {"name": artifact.type}, "metadata": json.dumps(artifact.metadata), "tags": [],
            "ttlDurationSeconds": artifact.ttl or -2, "ttlIsInherited": True, "historyStep": None,
            "state": artifact.state, "size": sum(map(len, artifact.files.values())), "digest": artifact.digest,
            "commitHash": "c", "fileCount": len(artifact.files), "createdAt": TIME, "updatedAt": TIME,
            "aliases": aliases,
        }  # fmt: skip

    def _on_ArtifactMembershipByName(self, v: dict) -> dict:
        found = self._find(v["name"])
        if found is None or found.state != "COMMITTED":
            return {"project": {"artifactCollectionMembership": None}}
        node = self._node(found)
        aliases = [{k: a[k] for k in ("__typename", "id", "alias")} for a in node["aliases"]]
        membership = {
            "__typename": "ArtifactCollectionMembership", "id": f"m{found.id}", "versionIndex": found.version,
            "createdAt": TIME,
            "aliases": aliases, "artifactCollection": self._collection(found, "ArtifactSequence"), "artifact": node,
        }  # fmt: skip
        return {"project": {"artifactCollectionMembership": membership}}

    def _on_GetProject(self, v: dict) -> dict:
        known = any(run.project == v["name"] for run in self.runs.values())
        place = {"__typename": "Project", "id": "P", "name": v["name"], "entityName": ENTITY, "createdAt": TIME}
        return {"project": place | {"isBenchmark": False, "user": None} if known else None}

    def _on_UpsertView2(self, v: dict) -> dict:
        self.views.append(json.loads(v["spec"]))
        return {"upsertView": {"view": {"id": "V", "name": v["name"]}, "inserted": True}}

    def _on_ArtifactByID(self, v: dict) -> dict:
        return {"artifact": self._node(self.artifacts[v["id"]])}

    def _on_DeleteArtifact(self, v: dict) -> dict:
        artifact = self.artifacts[v["input"]["artifactID"]]
        artifact.state = "DELETED"
        return {"result": {"artifact": {"id": artifact.id}}}

    def _on_FetchArtifactManifest(self, v: dict) -> dict:
        url = f"{self.url}/up/manifests/{v['id']}"
        return {"artifact": {"currentManifest": {"file": {"directUrl": url}}}}

    def _on_GetArtifactMembershipFileUrls(self, v: dict) -> dict:
        artifact = self._find(f"{v['collection']}:{v['alias']}")
        assert artifact is not None
        urls = {name: f"{self.url}/up/artifacts/{artifact.id}/{name}" for name in artifact.files}
        edges = [{"node": {"__typename": "File", "name": n, "directUrl": url}} for n, url in urls.items()]
        page = {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}
        member = {"files": {"pageInfo": page, "edges": edges}}
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": member}}}

    def _on_ArtifactManifest(self, v: dict) -> dict:
        return self._on_FetchArtifactManifest({"id": v["artifact_id"]})

    def _on_ServerFeaturesQuery(self, v: dict) -> dict:
        return {"serverInfo": {"features": []}}

    def _on_ServerInfo(self, v: dict) -> dict:
        return {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}

    def _on_OrganizationCoreWeaveOrganizationID(self, v: dict) -> dict:
        return {"entity": None}

    def _on_OrgFeatureFlags(self, v: dict) -> dict:
        return {"organization": None}

    def _on_UpsertBucket(self, v: dict) -> dict:
        known = v["name"] in self.runs
        project, entity = v.get("project") or "uncategorized", v.get("entity") or ENTITY
        run = self.runs.setdefault(v["name"], StoredRun(v["name"], project, entity))
        run.fields.update({k: x for k, x in v.items() if x is not None})
        if v.get("summaryMetrics"):
            run.summary.update(json.loads(v["summaryMetrics"]))
        bucket = self._bucket(run)
        return {"upsertBucket": {"bucket": bucket, "inserted": not known}}

    def _bucket(self, run: StoredRun) -> dict:
        place = {"id": "UHJvamVjdDox", "name": run.project, "entity": {"id": "RW50aXR5OjE=", "name": run.entity}}
        return {
            "id": base64.b64encode(f"Run:v1:{run.id}".encode()).decode(), "name": run.id, "project": place,
            "displayName": run.fields.get("displayName", run.id), "description": None, "sweepName": None,
            "config": run.fields.get("config", "{}"), "historyLineCount": len(run.history), "projectId": "1",
        }  # fmt: skip

    def _on_RunResumeStatus(self, v: dict) -> dict:
        model: dict[str, Any] = {"id": "x", "name": v.get("project"), "entity": {"id": "e", "name": ENTITY}}
        run = self.runs.get(v["name"])
        if run is not None:
            tail = json.dumps([json.dumps(run.history[-1])]) if run.history else "[]"
            model["bucket"] = self._bucket(run) | {
                "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "eventsLineCount": 0,
                "historyTail": tail, "eventsTail": "[]", "tags": run.fields.get("tags") or [],
                "notes": run.fields.get("notes"), "wandbConfig": json.dumps({"t": 1}),
            }  # fmt: skip
        else:
            model["bucket"] = None
        return {"model": model}

    def _on_RunStoppedStatus(self, v: dict) -> dict:
        return {"project": {"run": {"stopped": False}}}

    def _on_CreateRunFiles(self, v: dict) -> dict:
        files = [{"name": n, "uploadUrl": f"{self.url}/up/runs/{v['run']}/{n}"} for n in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def _on_MarkRunFilesUploaded(self, v: dict) -> dict:
        return {"markRunFilesUploaded": {"success": True}}

    def _on_NotifyScriptableRunAlert(self, v: dict) -> dict:
        return {"notifyScriptableRunAlert": {"success": True}}

    def _find(self, name: str) -> StoredArtifact | None:
        """By ``<collection>:<alias or version>``."""
        collection, _, alias = name.partition(":")
        for artifact in self.artifacts.values():
            if artifact.collection == collection and (alias in artifact.aliases or alias == f"v{artifact.version}"):
                return artifact
        return None

    def _on_ArtifactType(self, v: dict) -> dict:
        found = self._find(v["name"])
        return {"project": {"artifact": {"artifactType": {"name": found.type}} if found else None}}

    def _on_CreateArtifact(self, v: dict) -> dict:
        i = v["input"]
        siblings = [a for a in self.artifacts.values() if a.collection == i["artifactCollectionName"]]
        same = [a for a in siblings if a.digest == i["digest"] and a.state == "COMMITTED"]
        aliases = {a["alias"] for a in i.get("aliases") or []}
        if same:
            artifact = same[0]
        else:
            name = base64.b64encode(f"Artifact:{len(self.artifacts)}".encode()).decode()
            artifact = StoredArtifact(
                name, i["artifactCollectionName"], i["artifactTypeName"], len(siblings), i["digest"], i.get("runName"),
                i["projectName"], json.loads(i.get("metadata") or "{}"), set(), ttl=i.get("ttlDurationSeconds"),
            )  # fmt: skip
            self.artifacts[name] = artifact
        for other in siblings:
            other.aliases -= aliases
        artifact.aliases |= aliases
        latest = {"id": siblings[-1].id} if siblings else None
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": latest}}
        return {"createArtifact": {"artifact": answer}}

    def _on_CreateArtifactManifest(self, v: dict) -> dict:
        file = {"id": "F", "uploadHeaders": [], "uploadUrl": f"{self.url}/up/manifests/{v['artifactID']}"}
        return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}

    def _on_CreateArtifactFiles(self, v: dict) -> dict:
        edges = []
        for spec in v["input"]["artifactFiles"]:
            url = f"{self.url}/up/artifacts/{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": spec["name"], "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": node | {"artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, v: dict) -> dict:
        artifact = self.artifacts[v["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_UseArtifact(self, v: dict) -> dict:
        i = v["input"]
        self.runs[i["runName"]].used.append(i["artifactID"])
        return {"useArtifact": {"artifact": {"id": i["artifactID"]}}}

    # HTTP

    def received(self, path: str, body: bytes) -> None:
        """An upload."""
        with self._lock:
            self.uploads[path] = body
            kind, name, *rest = path.split("/", 2)
            if kind == "artifacts":
                self.artifacts[name].files[rest[0]] = body
            elif kind == "manifests":
                self.artifacts["/".join([name, *rest])].manifest = body
            elif kind == "runs":
                self.runs[name].files[rest[0]] = body

    def streamed(self, run_id: str, body: dict[str, Any]) -> None:
        """A part of the file stream."""
        with self._lock:
            run = self.runs[run_id]
            for name, part in (body.get("files") or {}).items():
                rows = [json.loads(line) for line in part["content"]] if name.endswith(("jsonl", "json")) else []
                if name == "wandb-history.jsonl":
                    run.history[part["offset"] :] = rows
                elif name == "wandb-summary.json":
                    run.summary = rows[-1]
            if body.get("complete"):
                run.complete, run.exit_code = True, body.get("exitcode")

    def _handler(standin) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _reply(self, content: Any, status: int = 200) -> None:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has gone
                    self.wfile.write(body)

            def _misbehaves(self) -> bool:
                if standin.mood == "stall":
                    while standin.mood == "stall":
                        time.sleep(0.05)
                if standin.mood == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return True
                return False

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    chunks = []
                    while size := int(self.rfile.readline(), 16):
                        chunks.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(chunks)
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _kept_body(self) -> bytes:
                body = self._body()
                standin.bodies.append(self.path.encode() + b"\n" + body)
                return body

            def do_POST(self) -> None:
                body = self._kept_body()
                if self._misbehaves():
                    return
                if self.path.startswith("/sdk/otel"):  # the client's own telemetry
                    return self._reply({}, 404)
                key = base64.b64decode((self.headers.get("Authorization") or "Basic ").split()[-1]).decode()
                if standin.mood == "deny" or key.removeprefix("api:") != KEY:
                    return self._reply({"errors": [{"message": "user is not logged in"}]}, 401)
                content = json.loads(body)
                if self.path.endswith("file_stream"):
                    standin.streamed(self.path.split("/")[-2], content)
                    return self._reply({"exitcode": None, "limits": {}})
                found = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
                operation = content.get("operationName") or (found.group(1) if found else "")
                standin.operations.append(operation)
                if standin.mood == "forbid" and operation in WRITES:
                    return self._reply({"errors": [{"message": "permission denied"}]}, 403)
                try:
                    data = standin.answer(operation, content.get("variables") or {})
                except Exception as error:  # a test reads it in .faults; the client gets an answer that ends its tries
                    standin.faults.append(f"{operation}: {error!r}: {json.dumps(content)[:2000]}")
                    return self._reply({"errors": [{"message": str(error)}]}, 400)
                self._reply({"data": data})

            def do_PUT(self) -> None:
                body = self._kept_body()
                if self._misbehaves():
                    return
                standin.received(self.path.removeprefix("/up/"), body)
                self._reply(b"")

            def do_GET(self) -> None:
                if self._misbehaves():
                    return
                body = standin.uploads.get(self.path.removeprefix("/up/"))
                self._reply(body or b"", 200 if body is not None else 404)

        return Handler
