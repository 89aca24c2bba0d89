# METADATA
# title: The decision
# description: |
#   Combines the packages with deny-overrides. A call is allowed when a rule allows it and no rule denies it; everything
#   else is denied with at least one reason. `decision` answers for `input`, `decisions` for each of `input.calls`.
package portcullis.main

import data.mcp.gateway
import data.mcp.gateway.context
import data.mcp.gateway.trust
import data.portcullis.http
import data.portcullis.llm

# METADATA
# entrypoint: true
# description: The decision on `input`.
decision := decide(input, custom)

# METADATA
# entrypoint: true
# description: |
#   One decision per element of `input.calls`, in order. An element holds what differs from call to call (action, names,
#   parameters, class, tool, server, resource, llm); principal and request facts are those of the document.
decisions := [decide(call, custom_for(call)) | some call in input.calls]

decide(call, extra) := conclude(call, extra, array.concat(reasons_against(call), extra.reasons))

conclude(call, extra, reasons) := {"allow": true, "deny": [], "obligations": extra.obligations, "valid_until": valid_until(call)} if {
	reasons == []
	base_allow(call, extra, gateway.approval_verified)
	not needs_approval(call)
} else := denial(call, reasons, [{"type": "require_mfa"} | some reason in reasons; reason.code == "MFA_REQUIRED"]) if {
	reasons != []
} else := denial(call, [approval_missing], [{"type": "require_approval"}]) if {
	base_allow(call, extra, true)
} else := denial(call, [no_rule(call)], [])

denial(call, reasons, obligations) := {
	"allow": false,
	"deny": reasons,
	"obligations": obligations,
	"valid_until": valid_until(call),
}

# Null: holds as long as the facts it was made from. Else epoch nanoseconds.
valid_until(call) := trust.next_change if trust.guarded_by_hours(call)

else := null

# --- allow -----------------------------------------------------------------------------------------------------------

base_allow(call, _, approved) if gateway.permitted(call, approved)

base_allow(call, _, _) if llm.permitted(call)

base_allow(call, _, _) if http.permitted(call)

base_allow(call, _, _) if {
	call.action == "a2a:delegate"
	trust.allow_delegation
}

base_allow(_, extra, _) if extra.allow

# A tool may ask for a human's consent whatever its class.
needs_approval(call) if {
	call.action == "gateway:tool:invoke"
	call.tool.requires_hitl == true
	not gateway.approval_verified
}

# Everything holds but a human's consent: worth asking for.
approval_missing := {
	"package": "portcullis.main",
	"code": "APPROVAL_REQUIRED",
	"message": "This call needs the approval of another person",
	"severity": "high",
}

# --- deny ------------------------------------------------------------------------------------------------------------

reasons_against(call) := array.concat(
	array.concat(context.violations_of(call), trust.violations_of(call)),
	array.concat(incomplete, array.concat(server_violations(call), tenant_violations(call))),
)

# Without these facts a rule above could not fire: their absence is never in the caller's favour.
default incomplete := [{
	"package": "portcullis.main",
	"code": "POLICY_EVALUATION_ERROR",
	"message": "The request could not be judged: facts are missing",
	"severity": "critical",
}]

incomplete := [] if {
	is_number(input.rate_limit.count)
	is_number(context.rate_limit)
}

server_violations(call) := [{
	"package": "portcullis.main",
	"code": "SERVER_DISABLED",
	"message": "The server is disabled",
	"severity": "medium",
}] if {
	call.server.enabled == false
} else := []

# Objects of another tenant do not exist for the caller.
tenant_violations(call) := [{
	"package": "portcullis.main",
	"code": "NOT_FOUND",
	"message": "Not found",
	"severity": "critical",
}] if {
	is_string(call.resource.tenant_id)
	not call.resource.tenant_id == input.user.tenant_id
} else := []

# --- no rule ---------------------------------------------------------------------------------------------------------

no_rule(call) := {
	"package": "portcullis.main",
	"code": no_rule_code(call),
	"message": no_rule_message(call),
	"severity": "medium",
}

no_rule_code(call) := "FORBIDDEN" if startswith(call.action, "http:")

else := "POLICY_DENIED"

no_rule_message(call) := concat("", [
	"No rule lets ", callers, " run ", call.gateway_metadata.tool_type, " tools of ",
	call.gateway_metadata.sensitivity_level, " sensitivity", place(call),
]) if {
	call.action in {"gateway:tool:invoke", "gateway:tool:discover"}
} else := http.refusal(call) if {
	startswith(call.action, "http:")
} else := llm.refusal(call) if {
	startswith(call.action, "llm:")
} else := concat("", ["No rule lets ", callers, " do ", call.action]) if {
	is_string(call.action)
} else := "No rule allows this"

place(call) := " in production" if gateway.in_production(call)

else := ""

callers := concat("", ["role ", concat(", ", sort(gateway.roles))]) if {
	count(gateway.roles) > 0
} else := "a caller without a role"

# --- packages of your own --------------------------------------------------------------------------------------------

# Any package below `portcullis.custom` may add `allow`, `deny`, `violations` and `obligations`.
customised if data.portcullis.custom[_] != null

nothing_custom := {"allow": false, "reasons": [], "obligations": []}

custom := nothing_custom if not customised

else := {"allow": custom_allow, "reasons": custom_reasons, "obligations": custom_obligations}

custom_for(_) := nothing_custom if not customised

# The same packages, asked about one element of the list.
custom_for(call) := answer if {
	customised
	answer := custom with input as object.union(object.remove(input, ["calls"]), call)
}

default custom_allow := false

custom_allow if data.portcullis.custom[_].allow == true

custom_obligations := [obligation |
	some name
	some obligation in data.portcullis.custom[name].obligations
]

custom_reasons := array.concat(
	[custom_reason(name, violation) | some name; some violation in data.portcullis.custom[name].violations],
	[custom_reason(name, {"message": message}) | some name; some message in data.portcullis.custom[name].deny],
)

# What a package says badly still denies.
custom_reason(name, violation) := {
	"package": concat(".", ["portcullis.custom", name]),
	"code": text_or(violation, "code"),
	"message": text_or(violation, "message"),
	"severity": text_or(violation, "severity"),
}

text_or(violation, member) := violation[member] if is_string(violation[member])

else := {"code": "POLICY_DENIED", "message": "Denied by policy", "severity": "high"}[member]
