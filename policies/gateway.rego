# METADATA
# title: Gateway rules
# description: |
#   Who may do what through the gateway: tools by role, tool type and sensitivity, the other MCP actions by role.
#   Rules are functions of one call, so that one evaluation can decide a single call (`input`) or every element of a list
#   by the same rules.
package mcp.gateway

default allow := false

# METADATA
# entrypoint: true
# description: Does a rule allow this call, before anything that speaks against it?
allow if permitted(input, input.action, approval_verified)

# --- the caller ------------------------------------------------------------------------------------------------------

anonymous if input.user.type == "anonymous"

authenticated if {
	is_string(input.user.id)
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

may_try(action) if {
	anonymous
	action in data.config.anonymous
}

# --- actions ---------------------------------------------------------------------------------------------------------

permitted(call, action, approved) if {
	action == "gateway:tool:invoke"
	tool_granted(call, approved, call)
	may_try(action)
}

# By far the most calls are tool calls: they need not look at the rest.
permitted(call, action, _) if {
	action != "gateway:tool:invoke"
	permitted_else(call, action)
}

permitted_else(_, action) if {
	action == "mcp:protocol"
	authenticated
}

permitted_else(_, action) if {
	action == "mcp:protocol"
	anonymous
	may_try(action)
}

permitted_else(call, action) if {
	action in {"gateway:prompt:get", "gateway:resource:read", "gateway:server:list", "gateway:server:info"}
	role_or_listed(action)
	not closed_by_tag(call)
}

# A task belongs to its creator; one whose creator is not known belongs to nobody.
permitted_else(call, action) if {
	action == "gateway:task:access"
	authenticated
	call.resource.owner_id == input.user.id
}

# A server may send back only what its entry in the configuration declares.
permitted_else(call, action) if {
	{
		"gateway:sampling:create": "sampling",
		"gateway:elicitation:create": "elicitation",
		"gateway:roots:list": "roots",
	}[action] in call.server.allow
	may_try(action)
}

# What a list may show. A tool is shown when it could be called with some arguments: with those that give it its least
# class, or with others that give it another one. An approval may still be had.
permitted_else(call, action) if {
	action == "gateway:tool:discover"
	tool_granted(call, true, call)
	may_try(action)
}

permitted_else(call, action) if {
	action == "gateway:tool:discover"
	some kind, level in call.gateway_metadata.possible_classes
	tool_granted({"gateway_metadata": {"tool_type": kind, "sensitivity_level": level}}, true, call)
	may_try(action)
}

permitted_else(call, action) if {
	action in {"gateway:prompt:discover", "gateway:resource:discover"}
	role_or_listed(action)
	not closed_by_tag(call)
}

# The same for an element of a list that differs from the document in name and class alone. Undefined where it is no
# tool.
discoverable(element) := answer if {
	element.action == "gateway:tool:discover"
	answer := listed(element)
}

listed(element) := true if {
	levels := object.get(listed_levels, element.gateway_metadata.tool_type, other_levels)
	element.gateway_metadata.sensitivity_level in levels
} else := true if {
	some kind, level in element.gateway_metadata.possible_classes
	level in object.get(listed_levels, kind, other_levels)
} else := false

role_or_listed(_) if has_role

role_or_listed(action) if {
	anonymous
	may_try(action)
}

# A server's tag may reserve its prompts and resources for some roles.
closed_by_tag(place) if {
	some tag in place.server.tags
	reserved := data.config.tag_roles[tag]
	not holds_one_of(reserved)
}

# Data that does not say which tags are open: every tag may be reserved.
closed_by_tag(place) if {
	not tags_ruled
	count(place.server.tags) > 0
}

tags_ruled if is_object(data.config.tag_roles)

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

tool_granted(call, approved, place) if {
	some grants in role_grants
	some kind in [call.gateway_metadata.tool_type, "*"]
	grant := grants[kind]
	level_fits(grant, call.gateway_metadata.sensitivity_level, approved)
	environment_fits(grant, place)
}

level_fits(grant, level, _) if level in grant.levels

level_fits(grant, level, approved) if {
	approved
	level in grant.approved_levels
}

# What a list shows this caller: the levels of each tool type, found once however long the list is.
listed_levels := {kind: levels |
	may_try("gateway:tool:discover")
	some grants in role_grants
	some kind, _ in grants
	levels := levels_of(kind)
}

other_levels := levels_of("*") if may_try("gateway:tool:discover")

else := set()

levels_of(kind) := {level |
	some grants in role_grants
	some name in {kind, "*"}
	grant := grants[name]
	environment_fits(grant, input)
	some level in array.concat(object.get(grant, "levels", []), object.get(grant, "approved_levels", []))
}

# A grant that says nothing of production holds there too; one that says anything but true does not.
environment_fits(grant, _) if object.get(grant, "production", true) == true

environment_fits(grant, place) if {
	not grant.production == true
	not in_production(place)
}

# The server's own environment decides; the caller's parameter can only raise.
in_production(place) if is_production(place.server.environment)

in_production(place) if is_production(place.parameters.environment)

in_production(place) if is_production(place.gateway_metadata.environment)

# Data that does not say what production is called: every place may be it.
in_production(_) if not production_has_names

production_has_names if is_array(data.config.production_names)

is_production(environment) if lower(trim_space(environment)) in data.config.production_names
