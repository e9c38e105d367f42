std = "lua54"
unused_args = false
max_line_length = 120
files["spec"] = { std = "+busted" }
files["rockspec"] = { std = "+rockspec" }
files[".busted"] = { std = "lua54" }
exclude_files = { "build" }
