"""The commands of the payload: serve and drain for the pod, fetch and inspect for the launcher itself."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from berth_server import __version__, drain, engine, hub, launcher, protocol


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code."""
    arguments = list(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = _parser().parse_args(arguments[:cut])
    if options.command == "drain":
        return drain.request(protocol.runtime_directory())
    if options.command == "inspect":
        print(json.dumps(engine.inspect()))
        return 0
    if options.command == "fetch":
        return hub.main(options.repo, options.revision, options.into)
    return _serve(options, arguments[cut + 1 :])


def _serve(options: argparse.Namespace, command: Sequence[str]) -> int:
    env = engine.with_launcher_key(engine.with_token(os.environ))
    try:
        planned = engine.read_command(command, env)
    except ValueError as error:
        _parser().error(str(error))
    if options.source.startswith("hf://") and not _inside(planned.model_path, options.weights):
        _parser().error(f"the model path {planned.model_path} is not below --weights={options.weights}")
    chosen = launcher.Options(
        source=options.source,
        revision=options.revision,
        secret=options.secret,
        drain_seconds=options.drain_seconds,
        probes_port=options.probes_port,
        payload=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
    return launcher.serve(chosen, planned, env)


def _inside(path: str, directory: str) -> bool:
    return os.path.normpath(path).startswith(os.path.normpath(directory) + os.sep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="berth", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run vLLM: serve [options] -- vllm serve <model path> [flags]")
    serve.add_argument("--source", required=True, help="hf://org/name, pvc://claim/path or file:///path")
    serve.add_argument("--revision", default="main", help="branch, tag or commit of an hf:// source")
    serve.add_argument("--weights", default="/var/lib/berth/weights", help="the volume for hf:// sources")
    serve.add_argument("--secret", default="", help="name of the Secret that HF_TOKEN comes from, for messages")
    serve.add_argument("--drain-seconds", type=float, default=120.0, help="the longest drain")
    serve.add_argument("--probes-port", type=int, default=protocol.PROBES_PORT)
    commands.add_parser("drain", help="ask the launcher to drain and wait: the preStop hook")
    commands.add_parser("inspect", help="print what vLLM this Python has")
    fetch = commands.add_parser("fetch", help="download a model; used by serve")
    fetch.add_argument("--repo", required=True)
    fetch.add_argument("--revision", required=True)
    fetch.add_argument("--into", required=True)
    return parser
