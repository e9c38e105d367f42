require("spec.sim.swarm").describe(describe, it, 2, 4)
