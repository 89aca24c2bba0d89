/**
 * Functions known to be free of effects, by dialect. Everything else a query calls makes it `admin/critical`: a parser
 * cannot see what a function does. Deliberately absent: files, network, sleeping, locking, sequences, settings, dynamic SQL.
 */
const words = (text: string): readonly string[] => text.split(/\s+/).filter((word) => word !== '');

/** Make a query `analytics` (acceptance S-16). */
export const AGGREGATES: ReadonlySet<string> = new Set(
  words(`
  count sum avg min max stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp array_agg
  string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg xmlagg bool_and bool_or every bit_and bit_or bit_xor
  group_concat listagg median mode percentile_cont percentile_disc approx_count_distinct approx_percentile any_value
  regr_slope regr_intercept regr_r2 regr_count regr_avgx regr_avgy regr_sxx regr_syy regr_sxy countif count_if sumif
  approx_quantiles approx_top_count approx_top_sum total stdev stdevp var varp count_big checksum_agg json_arrayagg
  json_objectagg wm_concat hll arg_max arg_min argmax argmin max_by min_by histogram list first last quantile
  quantile_cont quantile_disc product skewness kurtosis entropy mad logical_and logical_or array_concat_agg
  approx_distinct objectagg object_agg arrayagg bitand_agg range_agg json_group_array json_group_object bit_count_agg
  `),
);

const WINDOWS = words(`
  row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value ratio_to_report
`);

const COMMON = words(`
  abs acos asin atan atan2 ceil ceiling cos cot degrees exp floor ln log log10 log2 mod pi pow power radians rand random
  round sign sin sqrt tan trunc truncate ascii char char_length character_length chr concat concat_ws initcap instr
  lcase left len length locate lower lpad ltrim octet_length position repeat replace reverse right rpad rtrim soundex
  space split_part strpos substr substring substring_index translate trim ucase upper format coalesce greatest if ifnull
  iif isnull least nullif nvl nvl2 decode cast convert try_cast date date_add date_diff date_format date_part date_sub
  date_trunc datediff dateadd datepart datename day dayname dayofmonth dayofweek dayofyear extract hour last_day
  minute month monthname now quarter second str_to_date time timestamp timestampdiff timestampadd to_char to_date
  to_number to_timestamp week weekday weekofyear year yearweek current_date current_time current_timestamp curdate
  curtime localtime localtimestamp utc_date utc_time utc_timestamp unix_timestamp from_unixtime current_user
  session_user user database schema version md5 sha1 sha2 sha256 sha512 sha hex unhex to_base64 from_base64 crc32 uuid
  json json_array json_array_length json_contains json_contains_path json_depth json_each json_extract
  json_extract_scalar json_keys json_length json_object json_query json_quote json_search json_tree json_type
  json_unquote json_valid json_value json_overlaps json_pretty to_json unnest generate_series regexp_replace regexp_like
  regexp_substr regexp_count regexp_instr regexp_extract regexp_matches array array_length row grouping grouping_id
  typeof nextday add_months months_between
`);

const POSTGRES = words(`
  age array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
  array_prepend array_remove array_replace array_to_json array_to_string array_upper bit_length btrim cardinality cbrt
  clock_timestamp col_description convert_from convert_to current_catalog current_database current_schema
  current_schemas current_setting date_bin div encode erf factorial format_type gcd lcm gen_random_uuid get_bit
  get_byte has_column_privilege has_database_privilege has_schema_privilege has_table_privilege height host hostmask
  inet_client_addr isfinite json_array_elements json_array_elements_text json_build_array json_build_object
  json_each_text json_extract_path json_extract_path_text json_object_keys json_populate_record
  json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements
  jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
  jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists
  jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record jsonb_pretty
  jsonb_set jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours
  justify_interval lower_inc lower_inf upper_inc upper_inf isempty make_date make_interval make_time make_timestamp
  make_timestamptz masklen netmask network numnode obj_description overlay parse_ident pg_column_size
  pg_database_size pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_functiondef pg_get_userbyid pg_get_viewdef
  pg_indexes_size pg_relation_size pg_size_pretty pg_table_is_visible pg_table_size pg_total_relation_size
  pg_typeof phraseto_tsquery plainto_tsquery querytree quote_ident quote_literal quote_nullable regexp_match
  regexp_split_to_array regexp_split_to_table row_to_json scale setweight sha224 sha384 similarity sinh cosh
  tanh split_part statement_timestamp string_to_array string_to_table strip textcat timezone timeofday to_ascii to_hex
  to_jsonb to_regclass to_tsquery to_tsvector transaction_timestamp trim_array ts_delete ts_headline ts_rank
  ts_rank_cd tsvector_to_array unistr websearch_to_tsquery width width_bucket word_similarity xmlcomment xmlconcat
  xmlelement xmlforest xpath xpath_exists area center diameter point box circle line lseg path polygon num_nulls
  num_nonnulls numrange int4range int8range tsrange tstzrange daterange multirange date_add date_subtract
  st_distance st_dwithin st_contains st_within st_intersects st_x st_y st_astext st_asgeojson st_point st_makepoint
  st_setsrid st_transform st_area st_length st_buffer st_geomfromtext st_centroid cosine_distance l2_distance
  bool_and bool_or jsonb_path_query_tz regexp_instr min_scale normalize is_normalized starts_with substr unaccent
  hashtext width_bucket tsquery_phrase numnode array_sample array_shuffle
`);

const REDSHIFT = words(`
  getdate sysdate dateadd datediff trunc convert_timezone listagg median nvl nvl2 decode strtol json_extract_path_text
  json_extract_array_element_text is_valid_json json_parse json_serialize bpcharcmp charindex dexp dlog10 func_sha1
  len fnv_hash date_cmp interval_cmp months_between next_day add_months last_day approximate ratio_to_report
  regexp_substr regexp_count regexp_instr url_decode
`);

const MYSQL = words(`
  addtime adddate subdate subtime bin bit_count bit_length conv convert_tz elt export_set field find_in_set
  from_days get_format inet_aton inet_ntoa inet6_aton inet6_ntoa is_uuid json_merge_patch json_merge_preserve
  json_remove json_replace json_set json_insert json_array_append json_array_insert json_table json_storage_size
  json_schema_valid makedate maketime make_set microsecond mid name_const oct ord period_add period_diff quote
  regexp_like sec_to_time strcmp sysdate time_format time_to_sec timediff to_days to_seconds values weight_string
  char coercibility collation charset connection_id found_rows row_count current_role st_distance st_x st_y
  st_astext st_within st_contains st_geomfromtext st_distance_sphere any_value match against nullif default rlike
`);

const SQLITE = words(`
  changes char date datetime glob hex ifnull iif instr json_group_array json_group_object json_error_position
  json_patch json_remove json_replace json_set json_insert jsonb julianday last_insert_rowid like likelihood likely
  lower ltrim nullif printf quote randomblob round sign sqlite_version strftime substr time timediff total
  total_changes typeof unicode unixepoch unlikely zeroblob bm25 highlight snippet octet_length
  pragma_table_info pragma_table_xinfo pragma_index_list pragma_index_info pragma_foreign_key_list pragma_table_list
  pragma_database_list trunc string_agg group_concat concat concat_ws
`);

const TSQL = words(`
  app_name binary_checksum charindex checksum choose col_length col_name columnproperty datalength datefromparts
  datetimefromparts datetime2fromparts day db_id db_name difference eomonth error_message getdate getutcdate
  sysdatetime sysutcdatetime sysdatetimeoffset has_perms_by_name iif is_member is_srvrolemember isdate isjson isnumeric
  newid nchar ncharacter object_definition object_id object_name object_schema_name objectproperty parse parsename
  patindex quotename replicate schema_id schema_name serverproperty square str string_agg string_escape string_split
  stuff suser_name suser_sname switchoffset timefromparts todatetimeoffset try_convert try_parse type_name unicode
  user_name openjson json_modify datetrunc date_bucket isnull nullif scope_identity ident_current greatest least
`);

const ORACLE = words(`
  add_months bitand chartorowid cardinality concat cosh current_timestamp dbtimezone decode dump empty_clob
  extractvalue hextoraw lnnvl listagg lpad months_between nanvl new_time next_day nls_initcap nls_lower nls_upper
  nls_upper numtodsinterval numtoyminterval nvl nvl2 ora_hash rawtohex regexp_count regexp_instr regexp_like
  regexp_replace regexp_substr remainder rowidtochar sessiontimezone sinh soundex sysdate systimestamp sys_context
  sys_connect_by_path sys_guid sys_extract_utc tanh to_binary_double to_binary_float to_clob to_dsinterval to_multi_byte
  to_nchar to_single_byte to_timestamp_tz to_yminterval treat trunc tz_offset uid user userenv vsize width_bucket
  xmlelement xmlforest json_table standard_hash approx_count_distinct
`);

const SNOWFLAKE = words(`
  array_agg array_append array_cat array_compact array_construct array_contains array_distinct array_intersection
  array_size array_slice array_to_string arrays_overlap as_array as_object as_varchar base64_decode_string
  base64_encode charindex contains convert_timezone current_account current_database current_region current_role
  current_schema current_session current_statement current_version current_warehouse dateadd datediff date_from_parts
  div0 div0null editdistance endswith equal_null flatten get_path hash hour iff ilike insert is_array is_null_value
  is_object jarowinkler_similarity last_query_id monthname object_construct object_keys parse_json parse_ip parse_url
  parse_xml ratio_to_report regr_valx rlike sha1_hex sha2_hex split split_to_table square startswith strip_null_value
  strtok strtok_to_array sysdate table time_from_parts time_slice timeadd timediff timestamp_from_parts
  timestamp_ntz_from_parts to_array to_boolean to_binary to_decimal to_double to_geography to_json to_numeric to_object
  to_time to_timestamp_ltz to_timestamp_ntz to_timestamp_tz to_varchar to_variant try_parse_json try_to_boolean
  try_to_date try_to_decimal try_to_double try_to_number try_to_timestamp uniform uuid_string width_bucket xmlget
  zeroifnull nullifzero booland boolor array_flatten generator seq4 st_distance st_makepoint hll
  approx_percentile bitand bitor bitxor previous_day next_day dayname object_delete object_insert object_pick
`);

const BIGQUERY = words(`
  array_concat array_first array_last array_reverse array_to_string array_agg byte_length code_points_to_string
  collate contains_substr cosine_distance current_datetime date_from_unix_date date_trunc datetime datetime_add
  datetime_diff datetime_sub datetime_trunc div ends_with edit_distance farm_fingerprint format_date format_datetime
  format_time format_timestamp from_base32 from_hex generate_array generate_date_array generate_timestamp_array
  generate_uuid ieee_divide int64 is_inf is_nan justify_days json_extract_array json_extract_string_array
  json_query_array json_value_array lax_bool lax_string normalize normalize_and_casefold
  parse_date parse_datetime parse_json parse_time parse_timestamp range_bucket regexp_contains regexp_extract_all
  safe_add safe_cast safe_convert_bytes_to_string safe_divide safe_multiply safe_negate safe_subtract session_user
  split st_distance st_geogpoint st_within starts_with string struct time_add time_diff time_sub time_trunc
  timestamp_add timestamp_diff timestamp_micros timestamp_millis timestamp_seconds timestamp_sub timestamp_trunc
  to_base32 to_code_points to_hex to_json_string unix_date unix_micros unix_millis unix_seconds bool float64
  offset ordinal safe_offset safe_ordinal
`);

const DUCKDB = words(`
  age array_contains array_distinct array_extract array_filter array_position array_slice array_sort array_to_string
  array_transform bar base64 bit_count century contains current_database current_schema current_schemas date_bin
  datediff datesub datetrunc damerau_levenshtein dayofyear decade editdist3 element_at encode ends_with epoch
  epoch_ms epoch_us era even flatten format from_base64 gamma get_bit hamming hash isfinite isinf isnan isodow isoyear
  jaccard jaro_similarity jaro_winkler_similarity json_extract_path json_extract_string json_group_array
  json_group_object json_structure json_transform julian lcase len levenshtein lgamma list_aggregate list_append
  list_cat list_concat list_contains list_distinct list_element list_extract list_filter list_has list_position
  list_prepend list_reduce list_reverse list_slice list_sort list_sum list_transform list_unique list_value list_zip
  make_date make_time make_timestamp map map_entries map_extract map_keys map_values mismatches nfc_normalize ord
  prefix printf range regexp_extract_all regexp_full_match regexp_split_to_array row struct_extract struct_insert
  struct_pack starts_with strftime string_split string_split_regex string_to_array strip_accents strlen strptime
  suffix time_bucket to_base to_days to_hours to_milliseconds to_minutes to_months to_seconds to_years today
  transaction_timestamp try_strptime unicode yearweek cbrt factorial greatest gcd lcm string_agg
`);

const set = (...lists: readonly (readonly string[])[]): ReadonlySet<string> =>
  new Set([...COMMON, ...AGGREGATES, ...WINDOWS, ...lists.flat()]);

const LISTS: Readonly<Record<string, () => ReadonlySet<string>>> = {
  postgres: () => set(POSTGRES),
  redshift: () => set(POSTGRES, REDSHIFT),
  mysql: () => set(MYSQL),
  mariadb: () => set(MYSQL),
  sqlite: () => set(SQLITE),
  tsql: () => set(TSQL),
  oracle: () => set(ORACLE),
  snowflake: () => set(SNOWFLAKE),
  bigquery: () => set(BIGQUERY),
  duckdb: () =>
    set(
      DUCKDB,
      POSTGRES.filter((word) => !word.startsWith('pg_') && !word.startsWith('st_')),
    ),
};

/** The safe list of a dialect, lower-case; empty for a dialect nobody knows. */
export function safeFunctions(dialect: string): ReadonlySet<string> {
  const make = Object.hasOwn(LISTS, dialect) ? LISTS[dialect] : undefined;
  return make === undefined ? new Set() : make();
}
