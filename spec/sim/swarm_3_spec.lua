require("spec.sim.swarm").describe(describe, it, 3, 4)
