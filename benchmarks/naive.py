"""A baseline: what most people would write first, a blocking loop with the standard library."""

import json
import sys


def main() -> None:
    """Answer standard input until it ends."""
    for msg_id, line in enumerate(sys.stdin):
        message = json.loads(line)
        body = message["body"]
        reply = {"type": body["type"] + "_ok", "in_reply_to": body["msg_id"]}
        if body["type"] == "tcp_request":
            reply["result"] = "processed"
            reply["duration_ms"] = body["latency_ms"]
        reply["msg_id"] = msg_id
        print(json.dumps({"src": message["dest"], "dest": message["src"], "body": reply}), flush=True)


if __name__ == "__main__":
    main()
