# METADATA
# title: A table of servers and tools
# description: |
#   An example: which role may call which tool of which server, what nobody may do whatever the table says, and which
#   arguments are left out before a call goes on. A route takes it with `entrypoint: examples/gateway/decision`.
package examples.gateway

# role -> server -> tool -> tool types (what the gateway found the call to do). A star stands for every one.
table := {
	"admin": {"*": {"*": ["*"]}},
	"analyst": {"postgres-mcp": {
		"execute_query": ["query"],
		"list_tables": ["*"],
		"describe_table": ["*"],
	}},
	"developer": {"github-mcp": {
		"get_repo": ["*"],
		"list_issues": ["*"],
		"create_issue": ["*"],
	}},
}

# Arguments that no tool is to see, at any depth, in capitals or not.
secrets := ["password", "secret", "api_key"]

# METADATA
# entrypoint: true
# description: The decision as the gateway reads it.
decision := {
	"allow": allow,
	"deny": violations,
	"obligations": [{"type": "redact_parameters", "names": secrets}],
	"valid_until": time.now_ns() + (cache_ttl * 1000000000),
}

# METADATA
# entrypoint: true
# description: The same in few words, for people and for other gateways.
answer := {
	"allow": allow,
	"reason": reason,
	"filtered_parameters": filtered_parameters,
	"cache_ttl": cache_ttl,
}

# --- who -------------------------------------------------------------------------------------------------------------

default roles := []

roles := input.user.roles if not input.user.type == "anonymous"

# Asked of the list as a whole. `some role in roles; role != "admin"` holds for an admin who has a second role.
is_admin if "admin" in roles

# --- allow -----------------------------------------------------------------------------------------------------------

default allow := false

# A denial counts whatever the table says.
allow if {
	permitted
	count(deny) == 0
}

permitted if {
	input.action == "gateway:tool:invoke"
	some kinds in entries
	some kind in [input.gateway_metadata.tool_type, "*"]
	kind in kinds
}

# A list shows what can be called with some arguments.
permitted if {
	input.action == "gateway:tool:discover"
	count(entries) > 0
}

# Talk about the protocol, before there is a tool.
permitted if {
	input.action == "mcp:protocol"
	count(roles) > 0
}

# What the table has for this tool, from all roles of the caller.
entries := [kinds |
	some role in roles
	some server in [input.server_name, "*"]
	some tool in [input.tool_name, "*"]
	kinds := table[role][server][tool]
]

# --- deny ------------------------------------------------------------------------------------------------------------

deny contains "Only an admin may change data or tables" if {
	input.action == "gateway:tool:invoke"
	input.server_name == "postgres-mcp"
	not input.gateway_metadata.tool_type in {"query", "analytics"}
	not is_admin
}

deny contains "Guests do not call tools" if "guest" in roles

deny contains "The audit log is for nobody to delete" if {
	input.tool_name == "delete_audit_log"
}

# Facts that speak against a call when they are missing. Null says that there is no server, and no owner.
deny contains "The server is switched off" if not server_ready(input)

deny contains "The tool belongs to another tenant" if not of_own_tenant(input)

server_ready(call) if {
	call.server.enabled == true
} else if call.server == null

of_own_tenant(call) if {
	call.resource.tenant_id == call.user.tenant_id
} else if call.resource.tenant_id == null

violations := [violation |
	not allow
	violation := {"package": "examples.gateway", "code": "POLICY_DENIED", "message": reason, "severity": "medium"}
]

# --- in few words ----------------------------------------------------------------------------------------------------

# One rule and its `else`: it has one value, however many roles the caller has and however many denials hold.
reason := sort(deny)[0] if count(deny) > 0

else := concat(" ", ["Allowed for", concat(", ", sort(roles))]) if permitted

else := "No role lets this caller use this tool" if count(roles) > 0

else := "A caller without a role uses no tool"

default filtered_parameters := null

filtered_parameters := json.remove(input.parameters, secret_paths) if {
	allow
	is_object(input.parameters)
}

secret_paths := [[step_of(step) | some step in path] |
	walk(input.parameters, [path, _])
	name := path[count(path) - 1]
	is_string(name)
	lower(name) in secrets
]

# Places in lists are numbers, and steps of a path are texts.
step_of(step) := step if is_string(step)

else := format_int(step, 10)

# Seconds for which the answer may be remembered.
default cache_ttl := 0

cache_ttl := 60 if allow
