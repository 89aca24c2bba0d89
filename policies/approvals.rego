# METADATA
# title: Approvals
# description: |
#   Who may decide on what another person asked for (`approvals:decide`): holders of that permission, within their own
#   tenant, never the requester, and with a second factor unless `data.config.approvals.require_mfa` is false.
package portcullis.approvals

import data.mcp.gateway
import data.portcullis.http

permission := "approvals:decide"

permitted(call, action) if {
	action == "approvals:decide"
	gateway.authenticated
	http.holds(permission)
	call.resource.type == "approval"
	in_own_tenant(call)
}

in_own_tenant(call) if {
	is_string(call.resource.tenant_id)
	call.resource.tenant_id == input.user.tenant_id
}

# These hold whoever else may allow it.
violations(call) := array.concat(own_violations(call), mfa_violations)

own_violations(call) := [] if somebody_elses(call)

else := [{
	"package": "portcullis.approvals",
	"code": "FORBIDDEN",
	"message": "Nobody decides on a request of their own",
	"severity": "high",
}]

# A request whose maker is not known might be the caller's own.
somebody_elses(call) if {
	is_string(call.resource.owner_id)
	call.resource.owner_id != ""
	is_string(input.user.id)
	call.resource.owner_id != input.user.id
}

mfa_violations := [{
	"package": "portcullis.approvals",
	"code": "MFA_REQUIRED",
	"message": "MFA required to decide on an approval",
	"severity": "high",
}] if {
	not data.config.approvals.require_mfa == false
	not input.user.mfa_verified == true
} else := []

refusal := concat("", ["Permission denied: ", permission, " is required"]) if not http.holds(permission)

else := "Permission denied"
