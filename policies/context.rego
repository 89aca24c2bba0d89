# METADATA
# title: Context rules
# description: |
#   Where the caller is, how often it asked, how it proved itself, and where data may go. Lists, limits and the checks of
#   each level are data (`data.config`). A fact that is missing counts as the worst it could be.
package mcp.gateway.context

# METADATA
# entrypoint: true
# description: Reasons against this call, as sentences.
deny contains violation.message if some violation in violations

violations := array.concat(request_violations, call_violations(input, checks(input, object.get(input, "action", ""))))

# `asked` is what `checks` said of the call.
call_violations(call, asked) := array.concat(level_violations(asked), data_violations(call))

# --- facts of the request: found once per evaluation -----------------------------------------------------------------

request_violations := array.concat(region_violations, rate_violations) if {
	not too_deep
} else := array.concat([depth_violation], array.concat(region_violations, rate_violations))

default source_region := "unknown"

source_region := input.gateway_metadata.source_region if is_string(input.gateway_metadata.source_region)

default region_violations := []

region_violations := [{
	"package": "mcp.gateway.context",
	"code": "REGION_DENIED",
	"message": concat("", [
		"Access denied from region: ", source_region,
		". Allowed regions: {", concat(", ", [json.marshal(region) | some region in sort(allowed_regions)]), "}",
	]),
	"severity": "high",
}] if {
	not data.config.allowed_regions == null
	not on_the_list
}

# No list at all is an empty list: only an explicit null lets every region in.
on_the_list if source_region in data.config.allowed_regions

allowed_regions := {region | some region in data.config.allowed_regions}

default rate_violations := []

rate_violations := [{
	"package": "mcp.gateway.context",
	"code": "RATE_LIMIT_EXCEEDED",
	"message": concat("", ["Rate limit exceeded: ", format_int(rate_limit, 10), " requests/min allowed"]),
	"severity": "medium",
}] if {
	input.rate_limit.count >= rate_limit
}

# Requests per minute: the most generous of the caller's roles counts, the default where none has a figure.
rate_limit := max(role_limits) if count(role_limits) > 0

else := data.config.rate_limits["default"]

role_limits := [limit |
	some role in input.user.roles
	limit := data.config.rate_limits.roles[role]
]

# --- through how many hands --------------------------------------------------------------------------------------------

# How many act for one another behind this call (`data.config.chain.max_depth`). Without a figure nobody may act for
# another.
default max_chain_depth := 0

max_chain_depth := data.config.chain.max_depth if is_number(data.config.chain.max_depth)

too_deep if {
	input.delegation_depth > 0
	input.delegation_depth > max_chain_depth
}

depth_violation := {
	"package": "mcp.gateway.context",
	"code": "POLICY_DENIED",
	"message": "The call comes through too many hands",
	"severity": "high",
}

# --- how the caller proved itself ------------------------------------------------------------------------------------

# What the data asks for at the level of this call. A level the data does not know needs everything.
checks(call, action) := [] if ungraded(action)

else := asked if {
	asked := data.config.levels[call.gateway_metadata.sensitivity_level]
	is_array(asked)
	not names_no_check(asked)
} else := ["mfa", "device", "work_hours"] if {
	call.gateway_metadata.sensitivity_level
} else := []

# A word that is none of them may be one of them spelt wrongly.
names_no_check(asked) if {
	some name in asked
	not name in {"mfa", "device", "work_hours"}
}

# Actions that sensitivity says nothing about: talk about the protocol, lists, model calls, plain HTTP.
ungraded(action) if data.config.ungraded_actions[action]

ungraded(action) if startswith(action, "http:")

level_violations(asked) := [] if asked == []

else := array.concat(mfa_violations(asked), device_violations(asked))

mfa_violations(asked) := [{
	"package": "mcp.gateway.context",
	"code": "MFA_REQUIRED",
	"message": "MFA required for high-sensitivity operations",
	"severity": "high",
}] if {
	"mfa" in asked
	not input.user.mfa_verified == true
} else := []

device_violations(asked) := [{
	"package": "mcp.gateway.context",
	"code": "DEVICE_NOT_COMPLIANT",
	"message": "Device compliance check required for critical operations",
	"severity": "high",
}] if {
	"device" in asked
	not input.gateway_metadata.device_compliant == true
} else := []

# --- where data may go -----------------------------------------------------------------------------------------------

data_violations(call) := [] if {
	not outside_eu
	not unencrypted
} else := array.concat(gdpr_violations(call), hipaa_violations(call))

default outside_eu := true

outside_eu := false if startswith(lower(source_region), data.config.gdpr.source_prefix)

default unencrypted := true

unencrypted := false if input.gateway_metadata.encryption_enabled == true

gdpr_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "GDPR_VIOLATION",
	"message": "GDPR violation: EU data can only be accessed from EU regions",
	"severity": "critical",
}] if {
	outside_eu
	holds_eu_data(call)
} else := []

# The server's own data region decides; the caller's parameter can only add.
holds_eu_data(call) if is_eu(call.server.data_region)

holds_eu_data(call) if is_eu(call.parameters.data_region)

holds_eu_data(call) if is_eu(call.data_region)

is_eu(region) if {
	is_string(region)
	lower(region) == data.config.gdpr.data_region
}

# Data that does not say what is protected: everything that lies in a region may be.
is_eu(region) if {
	is_string(region)
	not region_named
}

region_named if is_string(data.config.gdpr.data_region)

hipaa_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "HIPAA_VIOLATION",
	"message": "HIPAA violation: Encryption required for healthcare data access",
	"severity": "critical",
}] if {
	unencrypted
	holds_health_data(call)
} else := []

holds_health_data(_) if not health_data_named

health_data_named if {
	is_array(data.config.hipaa.servers)
	is_array(data.config.hipaa.tags)
}

holds_health_data(call) if call.server_name in data.config.hipaa.servers

holds_health_data(call) if {
	some tag in call.server.tags
	tag in data.config.hipaa.tags
}
