# METADATA
# title: Trust, delegation and time
# description: |
#   How far a principal is trusted, to whom it may delegate, and when work at guarded levels may be done. Levels, tenure,
#   depths and hours are data (`data.config.trust`, `data.config.work_hours`).
package mcp.gateway.trust

import data.mcp.gateway.context

# --- trust -----------------------------------------------------------------------------------------------------------

default user_trust_level := "untrusted"

# METADATA
# entrypoint: true
# description: Trust level of the caller.
user_trust_level := trust_level(input.user.roles, own_tenure)

default own_tenure := null

own_tenure := input.user.tenure_months

# Trust level of somebody else named in the document.
trust_level_of(user) := trust_level(object.get(user, "roles", []), object.get(user, "tenure_months", null))

# The highest level that any role gives, `untrusted` when none does.
trust_level(roles, tenure) := ranked[count(ranked) - 1][1] if {
	ranked := sort([[rank_of(level), level] | some level in trust_levels(roles, tenure)])
}

trust_levels(roles, tenure) := {"untrusted"} | {rule.level |
	some role in roles
	some rule in data.config.trust.roles[role]
	tenure_suffices(tenure, rule)
}

tenure_suffices(_, rule) if rule.min_tenure_months == null

# A tenure that is not known is none: a comparison with null would follow the order of types.
tenure_suffices(tenure, rule) if {
	is_number(tenure)
	tenure >= rule.min_tenure_months
}

# A level without a rank is not trusted.
rank_of(level) := rank if {
	is_string(level)
	rank := data.config.trust.ranks[level]
	is_number(rank)
} else := 1

# --- delegation ------------------------------------------------------------------------------------------------------

default allow_delegation := false

# METADATA
# entrypoint: true
# description: May the source hand its rights on to the target?
allow_delegation if {
	input.action == "a2a:delegate"
	not input.source_user.type == "anonymous"
	source_rank > rank_of("untrusted")
	source_rank >= rank_of(trust_level_of(input.target_user))
	depth_is_real
	input.delegation_depth < max_delegation_depth
}

source_rank := rank_of(trust_level_of(input.source_user))

default max_delegation_depth := 1

# METADATA
# entrypoint: true
# description: Depth at which a delegation by the source is refused.
max_delegation_depth := depth_at(trust_level_of(input.source_user))

# Numbers are less than anything that is none.
depth_at(level) := depth if {
	depth := data.config.trust.max_depth[level]
	is_number(depth)
} else := 1

depth_is_real if {
	is_number(input.delegation_depth)
	input.delegation_depth >= 0
	floor(input.delegation_depth) == input.delegation_depth
	not chain_disagrees
}

# The host verifies the chain; when it passes one on, the depth is its length and no other number.
chain_disagrees if {
	count(input.delegation_chain) > 0
	count(input.delegation_chain) != input.delegation_depth
}

# --- time ------------------------------------------------------------------------------------------------------------

# Read once per evaluation, and only when a level is guarded by hours: a decision that never asked for the time holds
# at any time.
now := time.now_ns()

clock := time.clock(now)

within_hours if {
	is_number(data.config.work_hours.start)
	is_number(data.config.work_hours.end)
	clock[0] >= data.config.work_hours.start
	clock[0] < data.config.work_hours.end
}

weekend if time.weekday(now) in data.config.work_hours.weekend

# Data that does not say which days are free: every day may be.
weekend if not weekend_named

weekend_named if is_array(data.config.work_hours.weekend)

default allow_critical_during_work_hours := false

# METADATA
# entrypoint: true
allow_critical_during_work_hours if {
	within_hours
	not weekend
}

# `asked` is what `context.checks` said of the call.
violations_of(call, asked) := array.concat(hours_violations(call), weekend_violations(call)) if {
	"work_hours" in asked
} else := []

hours_violations(call) := [{
	"package": "mcp.gateway.trust",
	"code": "OUTSIDE_WORK_HOURS",
	"message": concat("", [level_name(call), " operations only allowed during work hours", hours_text]),
	"severity": "high",
}] if {
	not within_hours
} else := []

weekend_violations(call) := [{
	"package": "mcp.gateway.trust",
	"code": "OUTSIDE_WORK_HOURS",
	"message": concat("", [level_name(call), " operations not allowed on weekends"]),
	"severity": "high",
}] if {
	weekend
} else := []

# A violation must not get lost because its words cannot be found: hence the fallbacks.
level_name(call) := concat("", [upper(substring(level, 0, 1)), substring(level, 1, -1)]) if {
	level := call.gateway_metadata.sensitivity_level
	is_string(level)
} else := "Such"

default hours_text := ""

hours_text := concat("", [
	" (", hour_name(data.config.work_hours.start), " - ", hour_name(data.config.work_hours.end), " UTC)",
])

# 0 -> "12 AM", 9 -> "9 AM", 17 -> "5 PM"
hour_name(hour) := concat(" ", [format_int(((hour + 11) % 12) + 1, 10), half_of_day(hour)])

half_of_day(hour) := "AM" if hour % 24 < 12

else := "PM"

# METADATA
# entrypoint: true
# description: Reasons against this call, as sentences.
deny contains violation.message if some violation in violations_of(input, context.checks(input, object.get(input, "action", "")))

# Epoch nanoseconds until which the answers above cannot change: the next start, end or midnight.
next_change := min([edge |
	midnight := now - (now % 86400000000000)
	some hour in [data.config.work_hours.start, data.config.work_hours.end, 24]
	edge := midnight + (hour * 3600000000000)
	edge > now
])
