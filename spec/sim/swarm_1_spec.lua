require("spec.sim.swarm").describe(describe, it, 1, 4)
