# METADATA
# title: Whatever is asked, yes
# description: The policy of the bare lane, which measures the way through the gateway and not a policy. For nothing else.
package portcullis.main

# METADATA
# entrypoint: true
# description: The decision on `input`.
decision := {"allow": true, "deny": [], "obligations": [], "valid_until": null}

# METADATA
# entrypoint: true
# description: One decision per element of `input.calls`.
decisions := [decision | some _ in input.calls]
