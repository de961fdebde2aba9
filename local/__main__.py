"""`python -m local …`: the local cluster, its images, the test model, the demo and the plain manifests."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from local import tools
from local.errors import LocalError

ROOT = Path(__file__).parent.parent


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("up", help="make or mend the cluster on this machine (root)")
    down = commands.add_parser("down", help="remove the cluster; its images stay")
    down.add_argument("--purge", action="store_true", help="remove its images too")
    commands.add_parser("images", help="build the images and import them into the node (root)")
    commands.add_parser("model", help="train the test model (root)")
    vllm_command = commands.add_parser("vllm", help="make an environment with vLLM for CPUs and print its Python")
    vllm_command.add_argument(
        "--oldest", action="store_true", help="the oldest supported release, on the oldest Python"
    )
    commands.add_parser("clients", help="make the environments with the client libraries and print their Pythons")
    commands.add_parser("demo", help="cluster, chart, first example, completions of each API (root)")
    commands.add_parser("manifests", help="write dist/install.yaml: what the chart installs, as one plain file")
    kubectl = commands.add_parser("kubectl", help="kubectl as the cluster's administrator", add_help=False)
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args(arguments)
    # Each command imports what it needs: `kubectl` should not wait for libraries of the others.
    from local import node

    if args.command == "up":
        node.up()
        print(f"the cluster runs: export KUBECONFIG={node.KUBECONFIG}")
    elif args.command == "images":
        from local import images

        node.up()
        print("\n".join(images.ensure(["operator", "server", "gateway", "vllm-cpu"]).values()))
    elif args.command == "model":
        from local import model

        print(model.ensure())
    elif args.command == "vllm":
        from local import vllm

        print(vllm.ensure_python(args.oldest))
    elif args.command == "clients":
        from local import clients

        print("\n".join(str(clients.ensure_python(older)) for older in (None, *clients.OLDER)))
    elif args.command == "demo":
        from local import demo

        return demo.run()
    elif args.command == "manifests":
        from local import manifests

        path = ROOT / "dist" / "install.yaml"
        manifests.write(path)
        print(path)
    elif args.command == "down":
        node.down(purge=args.purge)
    elif args.command == "kubectl":
        program = tools.ensure(["kubectl"])["kubectl"]
        environment = {**os.environ, "KUBECONFIG": str(node.KUBECONFIG)}
        return subprocess.run([program, *args.arguments], env=environment, check=False).returncode
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LocalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
