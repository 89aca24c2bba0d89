# METADATA
# title: Gateway rules
# description: |
#   Who may do what through the gateway: tools by role, tool type and sensitivity, the other MCP actions by role.
#   Each rule is a function of one call, so that one evaluation can decide a single call (`input`) or every element of
#   a list (`input.calls`) by the same rules.
package mcp.gateway

default allow := false

# METADATA
# entrypoint: true
allow if permitted(input, approval_verified)

# --- the caller ------------------------------------------------------------------------------------------------------

anonymous if input.user.type == "anonymous"

authenticated if {
	input.user.id != ""
	not anonymous
}

# An anonymous caller has the pseudo-role "anonymous" and nothing else, whatever else the document says.
roles := ["anonymous"] if anonymous

roles := input.user.roles if not anonymous

has_role if {
	not anonymous
	count(input.user.roles) > 0
}

# The host verified the approval; a token in the request is only a claim.
default approval_verified := false

approval_verified if input.gateway_metadata.approval.verified == true

# An anonymous caller needs the action on the list besides the rule that allows it.
may_try(_) if not anonymous

may_try(action) if action in data.config.anonymous

# --- actions ---------------------------------------------------------------------------------------------------------

permitted(call, _) if {
	call.action == "mcp:protocol"
	known_caller
	may_try("mcp:protocol")
}

permitted(call, approved) if {
	call.action == "gateway:tool:invoke"
	tool_granted(call, approved)
	may_try("gateway:tool:invoke")
}

# A list shows what could be called: approval may still be had, so a list reckons with it.
permitted(call, _) if {
	call.action == "gateway:tool:discover"
	tool_granted(call, true)
	may_try("gateway:tool:discover")
}

permitted(call, _) if {
	call.action in {
		"gateway:prompt:discover", "gateway:prompt:get",
		"gateway:resource:discover", "gateway:resource:read",
		"gateway:server:list", "gateway:server:info",
	}
	role_or_listed(call.action)
	not closed_by_tag(call)
}

# A task belongs to its creator; one whose creator is not known belongs to nobody.
permitted(call, _) if {
	call.action == "gateway:task:access"
	authenticated
	call.resource.owner_id == input.user.id
}

# A server may send back only what its entry in the configuration declares.
permitted(call, _) if {
	reverse := {
		"gateway:sampling:create": "sampling",
		"gateway:elicitation:create": "elicitation",
		"gateway:roots:list": "roots",
	}[call.action]
	reverse in call.server.allow
	may_try(call.action)
}

known_caller if authenticated

known_caller if anonymous

role_or_listed(_) if has_role

role_or_listed(action) if {
	anonymous
	may_try(action)
}

# A server's tag may reserve its prompts and resources for some roles.
closed_by_tag(call) if {
	some tag in call.server.tags
	reserved := data.config.tag_roles[tag]
	not holds_one_of(reserved)
}

holds_one_of(wanted) if {
	some role in roles
	role in wanted
}

# --- tools -----------------------------------------------------------------------------------------------------------

# The grants of the caller's roles: found once per evaluation, however many calls are decided.
role_grants := [grants |
	some role in roles
	grants := data.config.tool_access[role]
]

tool_granted(call, approved) if {
	some grants in role_grants
	grant_covers(grants[call.gateway_metadata.tool_type], call, approved)
}

tool_granted(call, approved) if {
	some grants in role_grants
	grant_covers(grants["*"], call, approved)
}

grant_covers(grant, call, _) if {
	call.gateway_metadata.sensitivity_level in grant.levels
	environment_fits(grant, call)
}

grant_covers(grant, call, approved) if {
	approved
	call.gateway_metadata.sensitivity_level in grant.approved_levels
	environment_fits(grant, call)
}

environment_fits(grant, _) if not grant.production == false

environment_fits(grant, call) if {
	grant.production == false
	not in_production(call)
}

# The server's own environment decides; the caller's parameter can only raise.
in_production(call) if is_production(call.server.environment)

in_production(call) if is_production(call.parameters.environment)

in_production(call) if is_production(call.gateway_metadata.environment)

is_production(environment) if lower(trim_space(environment)) in data.config.production_names
