"""``python -m twisted_node``: the node without twistd."""

from twisted_node.command._run import run

if __name__ == "__main__":
    run()
