# METADATA
# title: Context rules
# description: |
#   Where the caller is, how often it asked, how it proved itself, and where data may go. Lists and limits are data
#   (`data.config`). A fact that is missing counts as the worst it could be.
package mcp.gateway.context

# METADATA
# entrypoint: true
# description: Reasons against this call, as sentences.
deny contains violation.message if some violation in violations

violations := violations_of(input)

violations_of(call) := array.concat(request_violations, call_violations(call))

# --- facts of the request: found once per evaluation -----------------------------------------------------------------

request_violations := array.concat(region_violations, rate_violations)

default source_region := "unknown"

source_region := input.gateway_metadata.source_region

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
	not source_region in allowed_regions
}

# No list at all is an empty list: only an explicit null lets every region in.
default allowed_regions := set()

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

# --- facts of one call -----------------------------------------------------------------------------------------------

call_violations(call) := array.concat(level_violations(call), data_violations(call))

level_violations(call) := array.concat(mfa_violations(call), device_violations(call)) if not unclassified(call)

else := []

# Actions that are not graded by sensitivity: talk about the protocol, lists, model and plain HTTP calls.
unclassified(call) if call.action in data.config.unclassified_actions

unclassified(call) if split(call.action, ":")[0] in data.config.unclassified_families

# True when the data asks for `check` at the call's level. Only an explicit false switches a check off.
guarded(call, check) if {
	level := call.gateway_metadata.sensitivity_level
	not data.config.levels[level][check] == false
	not unclassified(call)
}

mfa_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "MFA_REQUIRED",
	"message": "MFA required for high-sensitivity operations",
	"severity": "high",
}] if {
	guarded(call, "mfa")
	not input.user.mfa_verified == true
}

else := []

device_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "DEVICE_NOT_COMPLIANT",
	"message": "Device compliance check required for critical operations",
	"severity": "high",
}] if {
	guarded(call, "device")
	not input.gateway_metadata.device_compliant == true
}

else := []

data_violations(call) := array.concat(gdpr_violations(call), hipaa_violations(call))

gdpr_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "GDPR_VIOLATION",
	"message": "GDPR violation: EU data can only be accessed from EU regions",
	"severity": "critical",
}] if {
	holds_eu_data(call)
	not startswith(lower(source_region), data.config.gdpr.source_prefix)
}

else := []

# The server's own data region decides; the caller's parameter can only add.
holds_eu_data(call) if lower(call.server.data_region) == data.config.gdpr.data_region

holds_eu_data(call) if lower(call.parameters.data_region) == data.config.gdpr.data_region

holds_eu_data(call) if lower(call.data_region) == data.config.gdpr.data_region

hipaa_violations(call) := [{
	"package": "mcp.gateway.context",
	"code": "HIPAA_VIOLATION",
	"message": "HIPAA violation: Encryption required for healthcare data access",
	"severity": "critical",
}] if {
	holds_health_data(call)
	not input.gateway_metadata.encryption_enabled == true
}

else := []

holds_health_data(call) if call.server_name in data.config.hipaa.servers

holds_health_data(call) if call.server.name in data.config.hipaa.servers

holds_health_data(call) if {
	some tag in call.server.tags
	tag in data.config.hipaa.tags
}
