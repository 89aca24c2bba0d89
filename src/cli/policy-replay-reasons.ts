/** Why events of a decision log were not decided again, for people. */
const REASONS: Readonly<Record<string, string>> = {
  broken: 'lines that are no event',
  too_long: 'events of more than 16 MiB',
  no_input: 'events without input',
  no_result: 'events without a decision',
  no_time: 'events without a time',
  masked: 'masked or erased fields that the policy reads',
  list_without_document: 'calls of a list whose first event is missing',
  nondeterministic: 'answers of builtins that depend on more than the time and are not in the log',
  other_entrypoint: 'entrypoints that the candidate does not have',
};

/** The reason of a report, in words. */
export const notReplayedText = (why: string): string => REASONS[why] ?? why;
