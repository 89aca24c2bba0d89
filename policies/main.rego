# METADATA
# title: The decision
# description: |
#   Combines the packages with deny-overrides. A call is allowed when a rule allows it and no rule denies it; everything
#   else is denied with at least one reason. `decision` answers for `input`, `decisions` for each of `input.calls`.
package portcullis.main

import data.mcp.gateway
import data.mcp.gateway.context
import data.mcp.gateway.trust
import data.portcullis.a2a
import data.portcullis.approvals
import data.portcullis.facts
import data.portcullis.http
import data.portcullis.llm
import data.portcullis.objects
import data.portcullis.tenants

# Where no rule below comes to an end, whatever the reason.
default decision := {
	"allow": false,
	"deny": [{
		"package": "portcullis.main",
		"code": "POLICY_EVALUATION_ERROR",
		"message": "The request could not be judged",
		"severity": "critical",
	}],
	"obligations": [],
	"valid_until": null,
}

# METADATA
# entrypoint: true
# description: The decision on `input`.
decision := decide(input, object.get(input, "action", ""), custom)

# METADATA
# entrypoint: true
# description: |
#   One decision per element of `input.calls`, in order. The top-level members of an element replace those of the
#   document, except that `gateway_metadata` is merged; what an element leaves out is the document's.
decisions := [decide_element(element) | some element in input.calls]

# The usual element of a list says nothing new about the server: what speaks for or against that is found once.
decide_element(element) := verdict if {
	nothing_in_general
	not differs(element)
	verdict := verdicts[gateway.discoverable(element)]
} else := decide_whole(whole(element))

verdicts := {true: shown, false: hidden}

shown := {"allow": true, "deny": [], "obligations": [], "valid_until": null}

hidden := {
	"allow": false,
	"deny": [{
		"package": "portcullis.main",
		"code": "POLICY_DENIED",
		"message": concat("", ["No rule lets ", callers, " use this"]),
		"severity": "medium",
	}],
	"obligations": [],
	"valid_until": null,
}

# True when nothing speaks against a list as such, whatever its elements are.
nothing_in_general if {
	not customised
	not tenants.overlaid
	context.request_violations == []
	complete
	known(input)
	server_violations(input) == []
	context.data_violations(input) == []
}

# Only a name, a class and a tool of the same server may differ: nothing a rule against the call would look at.
differs(element) if element.server_name != input.server_name

differs(element) if {
	element.server_name
	not input.server_name
}

differs(element) if {
	is_there(element.server)
	other_server(element)
}

differs(element) if not near(element)

differs(element) if is_string(element.parameters.environment)

differs(element) if is_string(element.parameters.data_region)

differs(element) if element.data_region != null

differs(element) if is_string(element.gateway_metadata.environment)

# A member that either of them lacks is another one.
other_server(element) if not element.server.name == input.server.name

other_server(element) if not element.server.environment == input.server.environment

other_server(element) if not element.server.data_region == input.server.data_region

other_server(element) if not element.server.tags == input.server.tags

other_server(element) if not element.server.enabled == input.server.enabled

# Of no tenant or of the caller's own. An element that does not say is looked at as a whole.
near(element) := true if {
	element.resource.tenant_id == input.user.tenant_id
	is_string(input.user.tenant_id)
} else := true if element.resource.tenant_id == null

is_there(_) := true

whole(element) := object.union(object.remove(input, replaced), element) if {
	replaced := [member | some member, _ in object.remove(object.union(element, {"calls": null}), ["gateway_metadata"])]
}

decide_whole(call) := decide(call, object.get(call, "action", ""), nothing_custom) if not customised

else := decide(call, object.get(call, "action", ""), answer) if {
	answer := custom with input as call
}

decide(call, action, extra) := decision if {
	asked := context.checks(call, action)
	reasons := array.concat(reasons_against(call, action, asked), extra.reasons)
	decision := conclude(call, action, asked, extra, reasons)
}

conclude(call, action, asked, extra, reasons) := {
	"allow": true,
	"deny": [],
	"obligations": extra.obligations,
	"valid_until": valid_until(asked),
} if {
	reasons == []
	base_allow(call, action, extra, gateway.approval_verified)
	not needs_approval(call, action)
} else := denial(asked, reasons, array.concat(mfa_missing(reasons), records(extra))) if {
	reasons != []
} else := denial(asked, [approval_missing], array.concat([{"type": "require_approval"}], records(extra))) if {
	base_allow(call, action, extra, true)
} else := denial(asked, [no_rule(call, action)], records(extra))

mfa_missing(reasons) := [{"type": "require_mfa"} | some reason in reasons; reason.code == "MFA_REQUIRED"]

# How a call is recorded holds whether it is allowed or not.
records(extra) := [duty | some duty in extra.obligations; duty.type == "audit"]

denial(asked, reasons, obligations) := {
	"allow": false,
	"deny": reasons,
	"obligations": obligations,
	"valid_until": valid_until(asked),
}

# Null: holds as long as the facts it was made from. Else epoch nanoseconds.
valid_until(asked) := trust.next_change if "work_hours" in asked

else := null

# --- allow -----------------------------------------------------------------------------------------------------------

base_allow(call, action, _, approved) if gateway.permitted(call, action, approved)

# By far the most calls go to tools: they need not look at the rest.
base_allow(call, action, _, _) if {
	not startswith(action, "gateway:")
	elsewhere(call, action)
}

base_allow(_, _, extra, _) if extra.allow

elsewhere(call, action) if {
	startswith(action, "llm:")
	llm.permitted(call, action)
}

elsewhere(call, action) if {
	startswith(action, "http:")
	http.permitted(call)
}

elsewhere(call, action) if {
	startswith(action, "a2a:")
	a2a.permitted(call, action)
}

elsewhere(call, action) if approvals.permitted(call, action)

elsewhere(call, action) if objects.permitted(call, action)

# A tool may ask for a human's consent whatever its class.
needs_approval(call, action) if {
	action == "gateway:tool:invoke"
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

reasons_against(call, action, asked) := array.concat(
	array.concat(context.request_violations, context.call_violations(call, asked)),
	array.concat(
		array.concat(trust.violations_of(call, asked), facts_missing(call, action)),
		array.concat(server_violations(call), owners_violations(call, action)),
	),
)

# Without these facts a rule could not fire: their absence is never in the caller's favour.
facts_missing(call, action) := [] if {
	complete
	known(call)
	facts_of(call, action)
} else := [{
	"package": "portcullis.main",
	"code": "POLICY_EVALUATION_ERROR",
	"message": concat("", [
		"The request could not be judged: facts are missing",
		named(sort(facts.missing(call, action) | missing_figures)),
	]),
	"severity": "critical",
}]

# A denial must not get lost because its words cannot be found.
named([]) := ""

named(names) := concat("", [": ", concat(", ", names)]) if count(names) > 0

missing_figures contains "rate_limit.count" if not has_count

missing_figures contains "config.rate_limits (of the data)" if not has_limit

missing_figures contains "user.type" if not type_known

has_count if is_number(input.rate_limit.count)

has_limit if is_number(context.rate_limit)

# Who is anonymous has to be told from everybody else.
type_known if input.user.type in {"user", "service", "agent", "anonymous"}

complete if {
	type_known
	is_number(input.rate_limit.count)
	is_number(context.rate_limit)
	is_number(input.delegation_depth)
	input.delegation_depth >= 0
}

# What the gateway says of every call: which server it goes to, and whose the thing is. Null says that there is none.
known(call) if {
	facts.server_known(call)
	facts.tenant_known(call)
	facts.named(call)
}

# What it says of a call of this kind.
facts_of(call, action) := true if {
	action == "gateway:tool:invoke"
	has_class(call)
	is_boolean(call.tool.requires_hitl)
} else := true if {
	action != "gateway:tool:invoke"
	not class_missing(call, action)
	not demands_missing(call, action)
	not a2a.facts_missing(call, action)
}

class_missing(call, action) if {
	not context.ungraded(action)
	not has_class(call)
}

has_class(call) if is_string(call.gateway_metadata.sensitivity_level)

demands_missing(call, action) if {
	startswith(action, "http:")
	not http.has_demands(call)
}

server_violations(call) := [{
	"package": "portcullis.main",
	"code": "SERVER_DISABLED",
	"message": "The server is disabled",
	"severity": "medium",
}] if {
	call.server.enabled == false
} else := []

owners_violations(call, action) := array.concat(tenant_violations(call, action), approvals.violations(call)) if {
	action == "approvals:decide"
} else := array.concat(tenant_violations(call, action), llm.violations(call, action)) if {
	startswith(action, "llm:")
} else := tenant_violations(call, action)

# Objects of another tenant do not exist for the caller: no other rule of its own tenant may say otherwise.
tenant_violations(call, action) := [{
	"package": "portcullis.main",
	"code": "NOT_FOUND",
	"message": "Not found",
	"severity": "critical",
}] if {
	foreign(call)
} else := tenants.violations(call, action)

foreign(call) if {
	is_string(call.resource.tenant_id)
	not call.resource.tenant_id == input.user.tenant_id
}

# --- no rule ---------------------------------------------------------------------------------------------------------

no_rule(call, action) := {
	"package": "portcullis.main",
	"code": no_rule_code(call, action),
	"message": no_rule_message(call, action),
	"severity": "medium",
}

no_rule_code(call, action) := "FORBIDDEN" if startswith(action, "http:")

else := "FORBIDDEN" if action == "approvals:decide"

else := "NOT_FOUND" if objects.hidden(call, action)

else := "POLICY_DENIED"

no_rule_message(call, action) := concat("", [
	"No rule lets ", callers, " run ", call.gateway_metadata.tool_type, " tools of ",
	call.gateway_metadata.sensitivity_level, " sensitivity", place(call),
]) if {
	action in {"gateway:tool:invoke", "gateway:tool:discover"}
} else := http.refusal(call) if {
	startswith(action, "http:")
} else := llm.refusal(call) if {
	startswith(action, "llm:")
} else := a2a.refusal(call) if {
	startswith(action, "a2a:")
} else := approvals.refusal if {
	action == "approvals:decide"
} else := "Not found" if {
	objects.hidden(call, action)
} else := concat("", ["No rule lets ", callers, " do ", action]) if {
	action != ""
} else := "No rule allows this"

place(call) := " in production" if gateway.in_production(call)

else := ""

callers := concat("", ["role ", concat(", ", sort(gateway.roles))]) if {
	count(gateway.roles) > 0
} else := "a caller without a role"

# --- packages of your own --------------------------------------------------------------------------------------------

# Any package below `portcullis.custom` may add `allow`, `deny`, `violations` and `obligations`; one below
# `portcullis.tenant`, by the name of a tenant, `deny` and `violations` for its members.
customised if data.portcullis.custom[_] != null

customised if data.portcullis.tenant[_] != null

nothing_custom := {"allow": false, "reasons": [], "obligations": []}

custom := nothing_custom if not customised

else := {"allow": custom_allow, "reasons": custom_reasons, "obligations": custom_obligations}

default custom_allow := false

custom_allow if data.portcullis.custom[_].allow == true

custom_obligations := [obligation |
	some name
	some obligation in data.portcullis.custom[name].obligations
]

custom_reasons := array.concat(everyones_reasons, tenants_reasons)

tenants_reasons := array.concat(
	[tenant_reason(violation) | some violation in data.portcullis.tenant[input.user.tenant_id].violations],
	array.concat(
		[tenant_reason({"message": message}) | some message in data.portcullis.tenant[input.user.tenant_id].deny],
		[tenant_reason({}) | data.portcullis.tenant[input.user.tenant_id].deny == true],
	),
)

# Whose tenant is not known might be anybody's member.
tenants_reasons := [tenant_reason({"message": "The tenant is not known"})] if {
	data.portcullis.tenant[_] != null
	not is_string(input.user.tenant_id)
}

tenant_reason(violation) := object.union(custom_reason("", violation), {"package": "portcullis.tenant"})

everyones_reasons := array.concat(
	[custom_reason(name, violation) | some name; some violation in data.portcullis.custom[name].violations],
	array.concat(
		[custom_reason(name, {"message": message}) | some name; some message in data.portcullis.custom[name].deny],
		[custom_reason(name, {}) | some name; data.portcullis.custom[name].deny == true],
	),
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
