"""What the stand-in for the W&B server keeps, and what it answers to each operation of the client.

How a client reaches it, and how it misbehaves, is in :mod:`tests.standin`.
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from typing import Any

ENTITY = "team"
TIME = "2026-01-01T00:00:00Z"


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


class Records:
    """Runs, artifacts, uploads and views as they arrived.

    Attributes:
        url: where uploads go to and come from.
    """

    url: str

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.uploads: dict[str, bytes] = {}
        self.views: list[dict[str, Any]] = []  # workspaces
        self._lock = threading.RLock()

    def answer(self, operation: str, v: dict[str, Any]) -> dict[str, Any]:
        """The ``data`` of the answer to a GraphQL operation with its variables.

        Raises:
            NotImplementedError: an operation that is not known here.
        """
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
