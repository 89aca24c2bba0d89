package portcullis.approvals_test

import data.portcullis.main
import data.portcullis.support_test as support

call(changes) := json.patch(
	support.but({
		"/action": "approvals:decide",
		"/user/roles": ["admin"],
		"/server": null,
		"/server_name": null,
		"/tool": null,
		"/tool_name": null,
		"/parameters": null,
		"/gateway_metadata/tool_type": "mutation",
		"/gateway_metadata/sensitivity_level": "high",
		"/resource": {"type": "approval", "id": "apr_1", "tenant_id": "acme", "owner_id": "u2", "permissions": null},
	}),
	[{"op": "add", "path": path, "value": value} | some path, value in changes],
)

decide(changes) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as call(changes)
}

strictly(changes) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as call(changes) with data.config as support.strict
}

test_an_admin_decides_on_what_another_asked_for if {
	decide({}).allow == true
	strictly({}).allow == true
	decide({}).valid_until == null
}

test_the_permission_counts_not_the_role if {
	every held in ["approvals:decide", "approvals:*", "*"] {
		decide({"/user/roles": ["user"], "/user/permissions": [held]}).allow == true
		decide({"/user/roles": [], "/user/scopes": [held]}).allow == true
	}
	every held in ["approvals", "approvals:read", "approvals.decide", "gateway:*"] {
		denied := decide({"/user/roles": ["developer"], "/user/permissions": [held]})
		support.codes(denied) == {"FORBIDDEN"}
		support.messages(denied) == {"Permission denied: approvals:decide is required"}
	}
}

test_nobody_decides_on_a_request_of_their_own if {
	denied := decide({"/resource/owner_id": "u1"})
	support.codes(denied) == {"FORBIDDEN"}
	support.messages(denied) == {"Nobody decides on a request of their own"}
	every owner in [null, "", 7] {
		decide({"/resource/owner_id": owner}).allow == false
	}
}

test_a_second_factor_is_asked_for if {
	denied := decide({"/user/mfa_verified": false})
	support.codes(denied) == {"MFA_REQUIRED"}
	denied.obligations == [{"type": "require_mfa"}]
	decide({"/user/mfa_verified": null}).allow == false
	strict := strictly({"/user/mfa_verified": false})
	count(strict.deny) == 1
}

test_the_data_may_do_without_a_second_factor if {
	document := call({"/user/mfa_verified": false})
	every approvals in [{}, {"require_mfa": null}, {"require_mfa": true}, {"require_mfa": "false"}] {
		main.decision.allow == false with data.portcullis.custom as {} with input as document with data.config.approvals as approvals
	}
	main.decision.allow == true with data.portcullis.custom as {} with input as document
		with data.config.approvals as {"require_mfa": false}
}

test_approvals_of_another_tenant_do_not_exist if {
	every tenant in ["rival", ""] {
		denied := decide({"/resource/tenant_id": tenant})
		support.codes(denied) == {"NOT_FOUND"}
	}
	decide({"/resource/tenant_id": null}).allow == false
}

test_only_approvals_are_decided_on if {
	every type in ["tool", "key", "http", null] {
		decide({"/resource/type": type}).allow == false
	}
}

test_the_anonymous_decide_nothing if {
	every held in [[], ["approvals:decide"], ["*"]] {
		decide({"/user/type": "anonymous", "/user/permissions": held}).allow == false
	}
}

test_a_package_of_your_own_cannot_lift_the_second_pair_of_eyes if {
	every changes in [{"/resource/owner_id": "u1"}, {"/user/mfa_verified": false}] {
		main.decision.allow == false with input as call(changes) with data.portcullis.custom as {"extra": {"allow": true}}
	}
}

test_with_any_fact_missing_nothing_is_more_permissive if {
	paths := [
		"/user", "/user/id", "/user/tenant_id", "/user/mfa_verified", "/user/roles", "/resource", "/resource/type",
		"/resource/tenant_id", "/resource/owner_id", "/server", "/rate_limit", "/action",
	]
	every path in paths {
		document := json.patch(call({}), [{"op": "remove", "path": path}])
		main.decision.allow == false with data.portcullis.custom as {} with input as document
	}
}
