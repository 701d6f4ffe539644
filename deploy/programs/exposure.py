"""A step of a workflow that is served from outside: no fund may put more than a limit into one deal.

It answers on `tranche.step.exposure`, and hears on `tranche.step.exposure.undo` what is given up. The same question may
come twice, with the same Idempotency-Key; it is answered the same then. What it has agreed to is kept in memory here,
so it agrees anew after a restart: a program that must not would keep it in its database.

    NATS_URL=nats://steps:secret@localhost:4222 python exposure.py
"""

import asyncio
import json
import os
import signal
from decimal import Decimal

import nats

NAME = "exposure"


class Exposures:
    """What was agreed to: amounts by workflow, each for a fund and a deal."""

    def __init__(self):
        self.agreed = {}

    def ask(self, question):
        place = (question["fund_id"], question["deal_id"])
        others = (amount for workflow, (at, amount) in self.agreed.items() if at == place and workflow != question["workflow_id"])
        exposure = sum(others, Decimal(question["amount"]))
        limit = Decimal(question["parameters"]["limit"])
        data = {"exposure": str(exposure), "limit": str(limit)}
        if exposure > limit:
            return {"decision": "refused", "note": f"{exposure} in one deal is above {limit}", "data": data}
        self.agreed[question["workflow_id"]] = (place, Decimal(question["amount"]))
        return {"decision": "agreed", "note": f"{exposure} of {limit}", "data": data}

    def undo(self, question):
        self.agreed.pop(question["workflow_id"], None)
        return {"decision": "agreed"}


async def main():
    exposures = Exposures()
    connection = await nats.connect(os.environ["NATS_URL"], name=NAME)

    def serve(answer):
        async def reply(message):
            await message.respond(json.dumps(answer(json.loads(message.data))).encode())

        return reply

    # the queue: of several copies of this program one is asked; these then need a memory that they share
    await connection.subscribe(f"tranche.step.{NAME}", queue=NAME, cb=serve(exposures.ask))
    await connection.subscribe(f"tranche.step.{NAME}.undo", queue=NAME, cb=serve(exposures.undo))
    await connection.flush()
    print("ready", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await connection.drain()


if __name__ == "__main__":
    asyncio.run(main())
