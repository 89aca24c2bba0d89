package portcullis.objects_test

import data.portcullis.main
import data.portcullis.support_test as support

call(role, action, tenant, owner) := support.but({
	"/action": action,
	"/user/roles": [role],
	"/server": null,
	"/server_name": null,
	"/tool_name": null,
	"/gateway_metadata/tool_type": "custom",
	"/gateway_metadata/sensitivity_level": "high",
	"/user/mfa_verified": false,
	"/resource": {"type": "response", "id": "resp_1", "tenant_id": tenant, "owner_id": owner, "permissions": null},
})

on_one := ["responses:read", "responses:delete", "conversations:read", "conversations:write", "conversations:delete"]

test_an_object_is_its_makers if {
	every action in on_one {
		main.decision.allow == true with data.portcullis.custom as {} with input as call("user", action, "acme", "u1")
		main.decision.allow == true with data.portcullis.custom as {} with input as call("user", action, "acme", "u1") with data.config as support.strict
	}
}

test_what_others_made_is_not_found if {
	every action in on_one {
		denied := main.decision with data.portcullis.custom as {} with input as call("user", action, "acme", "u2")
		denied.allow == false
		support.codes(denied) == {"NOT_FOUND"}
	}
}

test_a_role_may_be_given_actions_on_the_objects_of_others if {
	every action in ["responses:read", "responses:delete", "conversations:read", "conversations:delete"] {
		main.decision.allow == true with data.portcullis.custom as {} with input as call("admin", action, "acme", "u2")
	}
	denied := main.decision with data.portcullis.custom as {} with input as call("admin", "conversations:write", "acme", "u2")
	denied.allow == false

	# It may be read, so that it exists is no secret.
	support.codes(denied) == {"POLICY_DENIED"}
}

test_nothing_reaches_across_tenants if {
	every role in ["admin", "user"] {
		every action in on_one {
			denied := main.decision with data.portcullis.custom as {} with input as call(role, action, "rival", "u1")
			support.codes(denied) == {"NOT_FOUND"}
			support.messages(denied) == {"Not found"}
		}
	}
}

test_an_object_without_owner_or_tenant_is_nobodys if {
	every action in on_one {
		main.decision.allow == false with data.portcullis.custom as {} with input as call("user", action, "acme", null)
		main.decision.allow == false with data.portcullis.custom as {} with input as call("user", action, null, "u1")
		main.decision.allow == false with data.portcullis.custom as {} with input as call("admin", action, null, null)
	}
}

test_the_anonymous_own_nothing if {
	document := json.patch(call("user", "responses:read", "acme", "u1"), [{"op": "replace", "path": "/user/type", "value": "anonymous"}])
	main.decision.allow == false with data.portcullis.custom as {} with input as document
}

test_lists_and_new_conversations_are_for_everybody_with_a_role if {
	every action in ["responses:list", "conversations:create"] {
		main.decision.allow == true with data.portcullis.custom as {} with input as call("viewer", action, null, null)
		roleless := json.patch(call("viewer", action, null, null), [{"op": "replace", "path": "/user/roles", "value": []}])
		main.decision.allow == false with data.portcullis.custom as {} with input as roleless
	}
}

test_with_any_fact_missing_nothing_is_more_permissive if {
	every path in ["/user/id", "/user/tenant_id", "/resource/tenant_id", "/resource/owner_id", "/resource", "/user"] {
		changed := json.patch(call("user", "responses:delete", "acme", "u1"), [{"op": "remove", "path": path}])
		main.decision.allow == false with data.portcullis.custom as {} with input as changed
	}
}
