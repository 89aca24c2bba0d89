# METADATA
# title: Tenant overlays
# description: |
#   What a tenant forbids its members on top of everything else (`data.tenants`). An overlay can only deny: nothing in it
#   is ever read as a permission. A fact that is missing fits every rule.
package portcullis.tenants

import data.mcp.gateway
import data.portcullis.llm

overlay := data.tenants[input.user.tenant_id]

overlaid if is_there(overlay)

# What stands for the tenants and is no table of them hides what it was to forbid.
overlaid if garbled

garbled if {
	is_there(data.tenants)
	not is_object(data.tenants)
}

# A caller without a tenant could slip by what its tenant says.
overlaid if adrift

has_tenant if is_string(input.user.tenant_id)

is_there(_) := true

adrift if {
	not has_tenant
	count(data.tenants) > 0
}

violations(call, action) := [] if not overlaid

else := [unreadable] if not readable

else := [violation |
	some rule in overlay.deny
	fits(rule, call, action)
	violation := {
		"package": "portcullis.tenants",
		"code": text_or(rule, "code", "POLICY_DENIED"),
		"message": text_or(rule, "message", "Your organisation does not allow this"),
		"severity": "medium",
	}
]

readable if is_array(overlay.deny)

unreadable := {
	"package": "portcullis.tenants",
	"code": "POLICY_EVALUATION_ERROR",
	"message": "The rules of this tenant cannot be read",
	"severity": "critical",
}

# All criteria of a rule have to fit; one that is not there, or is no list, fits everything.
fits(rule, call, action) if {
	not outside(criterion(rule, "actions"), action)
	not outside(criterion(rule, "servers"), server_name(call))
	not outside(criterion(rule, "tools"), tool_name(call))
	not outside(criterion(rule, "tool_types"), tool_type(call))
	not outside(criterion(rule, "levels"), level(call))
	not outside_models(criterion(rule, "models"), call, action)
	not outside_roles(rule)
}

criterion(rule, name) := object.get(rule, name, null) if is_object(rule)

else := null

# `false` stands for a fact that is missing; null for one that this kind of call does not have.
outside(patterns, value) if {
	is_array(patterns)
	not value == false
	not matches_one(patterns, value)
}

matches_one(patterns, value) if {
	some pattern in patterns
	llm.matches(pattern, value)
}

# What is no name might have been any.
matches_one(patterns, _) if {
	some pattern in patterns
	not is_string(pattern)
}

# A model goes by the name the caller used and the one it stands for; either is enough.
outside_models(patterns, _, action) if {
	is_array(patterns)
	not startswith(action, "llm:")
}

outside_models(patterns, call, _) if {
	is_array(patterns)
	is_string(call.llm.model)
	not names_one(patterns, call)
}

names_one(patterns, call) if {
	some name in llm.names(call)
	matches_one(patterns, name)
}

server_name(call) := value if {
	value := call.server_name
} else := false

tool_name(call) := value if {
	value := call.tool_name
} else := false

tool_type(call) := value if {
	value := call.gateway_metadata.tool_type
} else := false

level(call) := value if {
	value := call.gateway_metadata.sensitivity_level
} else := false

outside_roles(rule) if {
	is_array(rule.roles)
	is_array(gateway.roles)
	not holds_one(rule.roles)
}

holds_one(wanted) if {
	some role in gateway.roles
	matches_one(wanted, role)
}

text_or(rule, member, fallback) := text if {
	text := rule[member]
	is_string(text)
} else := fallback
