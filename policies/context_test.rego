package mcp.gateway.context_test

import data.mcp.gateway.context
import data.portcullis.support_test as support

region_text(region) := concat("", [
	"Access denied from region: ", region,
	`. Allowed regions: {"eu-west-1", "us-east-1", "us-west-2"}`,
])

mfa_text := "MFA required for high-sensitivity operations"

device_text := "Device compliance check required for critical operations"

gdpr_text := "GDPR violation: EU data can only be accessed from EU regions"

hipaa_text := "HIPAA violation: Encryption required for healthcare data access"

test_a_clean_request_meets_no_objection if {
	set() == context.deny with input as support.request with data.config as support.strict
}

test_regions_outside_the_list_are_named_in_the_denial if {
	every region in ["cn-north-1", "eu-central-1", "unknown", "US-EAST-1", ""] {
		{region_text(region)} == context.deny
			with input as support.but({"/gateway_metadata/source_region": region})
			with data.config as support.strict
	}
}

test_a_region_that_is_not_known_is_not_on_the_list if {
	every document in [support.without("/gateway_metadata/source_region"), support.but({"/gateway_metadata/source_region": null})] {
		{region_text("unknown")} == context.deny with input as document with data.config as support.strict
	}
}

test_only_an_explicit_null_lets_every_region_in if {
	document := support.but({"/gateway_metadata/source_region": "cn-north-1"})
	set() == context.deny with input as document
	denied := context.deny with input as document with data.config as object.remove(support.strict, ["allowed_regions"])
	count(denied) == 1
}

limit_text(limit) := concat("", ["Rate limit exceeded: ", format_int(limit, 10), " requests/min allowed"])

test_the_limit_follows_the_most_generous_role if {
	table := [
		[["admin"], 1000], [["developer"], 500], [["data_engineer"], 500], [["analyst"], 100], [[], 100],
		[["guest"], 100], [["analyst", "developer"], 500], [["developer", "admin"], 1000],
	]
	every row in table {
		set() == context.deny with input as support.but({"/user/roles": row[0], "/rate_limit/count": row[1] - 1})
		{limit_text(row[1])} == context.deny
			with input as support.but({"/user/roles": row[0], "/rate_limit/count": row[1]})
	}
}

test_mfa_is_asked_for_at_high_and_critical if {
	table := [["low", set()], ["medium", set()], ["high", {mfa_text}], ["critical", {mfa_text}]]
	every row in table {
		every value in [false, null, "true", 1] {
			row[1] == context.deny
				with input as support.but({"/user/mfa_verified": value, "/gateway_metadata/sensitivity_level": row[0]})
				with data.config as support.strict
		}
		absent := json.patch(support.without("/user/mfa_verified"), [{
			"op": "add", "path": "/gateway_metadata/sensitivity_level", "value": row[0],
		}])
		row[1] == context.deny with input as absent with data.config as support.strict
	}
}

test_a_compliant_device_is_asked_for_at_critical if {
	table := [["low", set()], ["medium", set()], ["high", set()], ["critical", {device_text}]]
	every row in table {
		row[1] == context.deny
			with input as support.but({
				"/gateway_metadata/device_compliant": false,
				"/gateway_metadata/sensitivity_level": row[0],
			})
			with data.config as support.strict
		absent := json.patch(support.without("/gateway_metadata/device_compliant"), [{
			"op": "add", "path": "/gateway_metadata/sensitivity_level", "value": row[0],
		}])
		row[1] == context.deny with input as absent with data.config as support.strict
	}
}

test_a_level_the_data_does_not_know_needs_everything if {
	document := support.but({
		"/gateway_metadata/sensitivity_level": "extreme",
		"/user/mfa_verified": false,
		"/gateway_metadata/device_compliant": false,
	})
	{mfa_text, device_text} == context.deny with input as document
	{mfa_text, device_text} == context.deny with input as document with data.config.levels as {}
}

test_actions_without_a_grade_are_not_asked_for_mfa if {
	every action in ["mcp:protocol", "gateway:tool:discover", "llm:chat:create", "http:get", "http:propfind"] {
		set() == context.deny
			with input as support.but({
				"/action": action,
				"/user/mfa_verified": false,
				"/gateway_metadata/sensitivity_level": "critical",
			})
			with data.config as support.strict
	}
}

test_eu_data_stays_with_callers_in_the_eu if {
	every path in ["/server/data_region", "/parameters/data_region", "/data_region"] {
		every spelling in ["eu", "EU"] {
			{gdpr_text} == context.deny with input as support.but({path: spelling})
			set() == context.deny with input as support.but({path: spelling, "/gateway_metadata/source_region": "eu-west-1"})
		}
		set() == context.deny with input as support.but({path: "us"})
	}
}

test_a_caller_cannot_lower_the_servers_data_region if {
	{gdpr_text} == context.deny
		with input as support.but({"/server/data_region": "eu", "/parameters/data_region": "us"})
}

test_health_data_needs_encryption if {
	every change in [{"/server/tags": ["phi"]}, {"/server/tags": ["pii", "phi"]}, {"/server_name": "healthcare-mcp"}] {
		set() == context.deny with input as support.but(change)
		every value in [false, null, "true"] {
			{hipaa_text} == context.deny
				with input as support.but(object.union(change, {"/gateway_metadata/encryption_enabled": value}))
		}
	}
	absent := json.patch(support.without("/gateway_metadata/encryption_enabled"), [{
		"op": "add", "path": "/server/tags", "value": ["phi"],
	}])
	{hipaa_text} == context.deny with input as absent
}

test_unencrypted_is_fine_for_other_data if {
	set() == context.deny with input as support.but({"/gateway_metadata/encryption_enabled": false})
}
