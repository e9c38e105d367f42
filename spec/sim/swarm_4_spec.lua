require("spec.sim.swarm").describe(describe, it, 4, 4)
