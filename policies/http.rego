# METADATA
# title: Plain HTTP rules
# description: A route names the permissions a method needs (`input.resource.permissions`); the caller has to hold them.
package portcullis.http

import data.mcp.gateway

# Permissions and scopes of the credential, and what the data gives to the caller's roles.
held := ({permission | some permission in input.user.permissions} | {scope | some scope in input.user.scopes}) | {permission |
	some role in gateway.roles
	some permission in data.config.role_permissions[role]
}

# A method without permissions is open to whoever reached the route: without a credential that takes the route's own
# `anonymous` line. Open means an explicit null; a document without the member says nothing.
permitted(call) if {
	call.resource.permissions == null
}

permitted(call) if {
	gateway.authenticated
	is_object(call.resource.permissions)
	has_demands(call)
	count(missing(call)) == 0
	any_held(call)
}

# An explicit null asks for nothing. Anything else has to name a list to ask for something: an object that lost its lists
# must not read like an open method.
has_demands(call) if call.resource.permissions == null

has_demands(call) if {
	some name in lists
	is_array(call.resource.permissions[name])
	not unreadable(call)
}

lists := ["allOf", "anyOf"]

unreadable(call) if {
	some name in lists
	demand := call.resource.permissions[name]
	not is_array(demand)
}

# What `allOf` asks and the caller does not hold.
missing(call) := {wanted |
	some wanted in call.resource.permissions.allOf
	not holds(wanted)
}

any_held(call) if not any_asked(call)

any_asked(call) if is_array(call.resource.permissions.anyOf)

any_held(call) if {
	some wanted in call.resource.permissions.anyOf
	holds(wanted)
}

holds(wanted) if wanted in held

holds(_) if "*" in held

# A star stands for the rest after a separator: `tasks.*` covers `tasks.create`, but neither `tasks` nor `tasksfoo`.
holds(wanted) if {
	some stem in stems
	startswith(wanted, stem)
	count(wanted) > count(stem)
}

stems := {substring(permission, 0, count(permission) - 1) |
	some permission in held
	some ending in [".*", ":*"]
	endswith(permission, ending)
}

# Why a plain HTTP call found no rule, in words the caller can act on: what is needed, and what the caller has.
refusal(call) := concat("", [demanded(call), possessed])

demanded(call) := concat("", ["Permission denied: ", concat(", ", sort(missing(call))), " is required"]) if {
	count(missing(call)) > 0
} else := concat("", ["Permission denied: one of ", concat(", ", sort(call.resource.permissions.anyOf)), " is required"]) if {
	count(call.resource.permissions.anyOf) > 0
} else := "Permission denied: no permission opens this method" if {
	any_asked(call)
} else := "Permission denied"

# The first ones, for an error must stay readable.
possessed := concat("", ["; held: ", concat(", ", array.slice(sort(held), 0, 20))]) if {
	count(held) > 0
} else := "; none is held"
