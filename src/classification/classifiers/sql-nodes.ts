/** What a query's tree may hold in the generic parser: node kinds and fields on this list only read; anything else does not. */
const words = (text: string): readonly string[] => text.split(/\s+/).filter((word) => word !== '');

/** Kinds that make a query `analytics`. */
export const AGGREGATE_KINDS: ReadonlySet<string> = new Set(
  words(`
  count sum avg min max group_concat string_agg list_agg array_agg count_if sum_if stddev stddev_pop stddev_samp
  variance var_pop var_samp median mode any_value approx_distinct approx_count_distinct approx_percentile percentile
  logical_and logical_or skewness array_concat_agg array_unique_agg bool_xor_agg percentile_cont percentile_disc
  json_array_agg json_object_agg bitwise_and_agg bitwise_or_agg bitwise_xor_agg hash_agg hll arg_max arg_min
  approx_top_k approx_top_sum approx_quantiles anonymous_agg_func combined_agg_func combined_parameterized_agg
  parameterized_agg aggregate_function j_s_o_n_object_agg j_s_o_n_b_object_agg j_s_o_n_array_agg quantile
  approx_quantile regr_valx regr_valy regr_avgy regr_avgx regr_count regr_intercept regr_r2 regr_sxx regr_sxy
  regr_syy regr_slope corr covar_samp covar_pop object_agg pivot
  `),
);

/** Expression kinds without effects. */
const EXPRESSIONS = words(`
  literal boolean null identifier column table star braced_wildcard select union intersect except subquery unpivot
  pivot_alias values alias cast collation case and or add sub mul div mod eq neq lt lte gt gte like i_like match
  bitwise_and bitwise_or bitwise_xor concat adjacent ts_match array_contains_all array_contained_by array_overlaps not
  neg bitwise_not in between is_null is_true is_false is_json exists member_of function window_function from join
  joined_table where group_by having order_by limit offset qualify with cte distribute_by cluster_by sort_by
  lateral_view pseudocolumn connect prior connect_by_root match_recognize ordered window over within_group data_type
  array struct tuple interval concat_ws substring upper lower length trim l_trim r_trim replace reverse left right
  repeat lpad rpad split regexp_like regexp_replace regexp_extract overlay abs round floor ceil power sqrt cbrt ln log
  exp sign greatest least current_date current_time current_timestamp current_timestamp_l_t_z at_time_zone date_add
  date_sub date_diff date_trunc extract to_date to_timestamp date time date_from_unix_date unix_date unix_seconds
  unix_millis unix_micros ts_or_ds_to_datetime ts_or_ds_to_timestamp coalesce null_if if_func if_null nvl nvl2 try_cast
  safe_cast bitwise_count row_number rank dense_rank n_tile lead lag first_value last_value nth_value percent_rank
  cume_dist contains starts_with ends_with position initcap ascii chr char_func soundex levenshtein byte_length hex
  lower_hex unicode mod_func random rand trunc_func pi radians degrees sin cos tan asin acos atan atan2 is_nan is_inf
  int_div decode date_format format_date year month day hour minute second day_of_week day_of_week_iso day_of_month
  day_of_year week_of_year quarter add_months months_between last_day next_day epoch epoch_ms from_unixtime
  unix_timestamp make_date make_timestamp timestamp_trunc session_user s_h_a s_h_a1_digest s_h_a2 s_h_a2_digest
  m_d5_digest array_func array_length array_size cardinality array_contains array_position array_append array_prepend
  array_concat array_sort array_reverse array_distinct array_join array_to_string unnest explode explode_outer
  array_filter array_transform array_flatten array_compact array_intersect array_union array_except array_remove
  array_zip sequence generate generate_series to_array star_map struct_func struct_extract named_struct map_func
  map_from_entries map_from_arrays map_keys map_values map_contains_key map_concat element_at json_extract
  json_extract_scalar json_extract_path json_array json_object json_query json_value json_array_length json_keys
  json_type parse_json to_json json_set json_insert json_remove json_merge_patch convert typeof lambda parameter
  placeholder named_argument null_safe_eq null_safe_neq glob similar_to any all overlaps bitwise_left_shift
  bitwise_right_shift subscript dot array_slice show describe summarize paren annotated table_alias byte_string
  column_position into_clause fetch cube rollup grouping_sets limit_options lateral table_from_rows rows_from group
  var var_map table_sample unpivot_columns window_spec time_unit interval_op interval_span having_max transform_keys
  transform_values cosine_distance euclidean_distance jarowinkler_similarity booland boolor grouping grouping_id
  to_boolean list to_map to_char to_number to_double int64 string_func columns convert_timezone array_all array_any
  st_point st_distance string_to_array array_sum current_schemas current_datetime localtime localtimestamp
  systimestamp current_schema current_user utc_time utc_timestamp timestamp date_bin datetime datetime_add
  datetime_sub datetime_diff datetime_trunc dayname make_interval previous_day elt timestamp_add timestamp_sub
  timestamp_diff time_slice time_add time_sub time_diff time_trunc date_from_parts time_from_parts decode_case encode
  equal_null to_binary base64_decode_binary base64_decode_string base64_encode generate_date_array
  generate_timestamp_array getbit xor nullif j_s_o_n j_s_o_n_path format j_s_o_n_keys j_s_o_n_key_value j_s_o_n_object
  j_s_o_n_array j_s_o_n_exists j_s_o_n_column_def j_s_o_n_schema j_s_o_n_set j_s_o_n_value j_s_o_n_value_array
  j_s_o_n_table j_s_o_n_type j_s_o_n_extract j_s_o_n_extract_array j_s_o_n_extract_scalar j_s_o_n_format j_s_o_n_bool
  j_s_o_n_array_contains open_j_s_o_n open_j_s_o_n_column_def parse_j_s_o_n parse_time parse_datetime map slice
  match_against monthname ntile normalize range_bucket randn regexp_extract_all regexp_i_like regexp_full_match
  regexp_instr regexp_split regexp_count safe_add safe_divide safe_multiply safe_subtract sort_array split_part
  substring_index standard_hash str_position str_to_date str_to_time str_to_unix number_to_str stuff time_to_str
  ts_or_ds_add ts_or_ds_diff ts_or_ds_to_date ts_or_ds_to_time unhex unix_to_str unix_to_time uuid
  timestamp_from_parts timestamp_tz_from_parts width_bucket week farm_fingerprint float64 translate unicode_string
  hex_string_expr with_table_hint query_option table_argument raw_string first last set_operation variadic
`);

/** Names of fields inside those kinds, and the tags of small enumerations. */
const FIELDS = words(`
  this expressions expression left right name schema catalog alias aliases column_aliases alias_explicit_as
  alias_keyword alias_first only final final_ joins join join_type kind on using use_inner_keyword use_outer_keyword
  deferred_condition join_hint nesting_group directed where_clause group_by having qualify order_by limit offset fetch
  distinct distinct_on distinct_args top percent with_ties parenthesized with windows sample connect start nocycle
  leading_comments ctes recursive materialized columns key_expressions search condition whens else_ operand to format
  default literal_type value star except replace rename args no_parens bracketed original_name filter
  ignore_nulls respect_nulls within_group partition_by frame over end exclude kind_text start_side_text
  end_side_text preceding following Preceding Following CurrentRow UnboundedPreceding UnboundedFollowing Named
  window_name desc nulls_first explicit_asc with_fill collate low high not symmetric query data_type data_types unit
  unit_value unit_kind Simple simple field values type precision scale length timezone with_time_zone ansi
  all by_name strict corresponding totals span dialect for_clause syntax function_name
  escape quantifier any all_op subquery target extended full like from db inner outer offset_alias ordinality with_ordinality
  lateral lateral_alias tablesample method size seed quoted bracket_notation use_list_keyword index style
  count rows row_count offset_rows fields fieldnames path paths separator separator_keyword limit_value
  on_overflow characters position position_syntax trim_type chars sign zone from_zone to_zone start_expr
  decimals pattern flags replacement occurrence parameters group position_expr return_option
  true_value false_value zero else_value search results has_else inline comments Number Identifier String
  negated inverse postfix_form postfix is_json json_type unique_keys expand_star element_type element inferred_type
  dimension dimensions max_dimension arrow_syntax hash_arrow_syntax wrapper quotes returning on_empty on_error
  on_scalar_string key key_type value_type is_recursive elements options system_time for_json for_xml unpivot value_column
  name_column include_nulls in_expressions with_rollup rollup cube grouping_sets unqualified parens wrapped
  case_sensitive fill nulls null_handling null_on_null absent_on_null entries keys cols column_mappings columns_mode
  implicit no_from value_table struct operator operators colon strategy modifiers prefix
  aggregate bounds step interval tz charset style_code safe try to_charset character_set collation timestamp_type
  time_type Date Time Timestamp Int SmallInt BigInt TinyInt Decimal Float Double VarChar Char Text Boolean Json
  Interval Array Struct Map Custom Uuid Binary Blob explicit_precedence syntax_style function limit_by
  measures rules after define row_patterns Var VarChar_ ExpressionUnit QuarterUnit unit_plural
  use_plural percent_keyword set_quantifier force depth schema_expressions row_expressions is_method
  substr integer_spelling double_colon_syntax variant_extract hints index_table_hint boolean_value op_symbol explicit explicit_method method_before_size values_list row recursion_search distribution sort_by cluster_by offset_clause
  lateral_views partition partitions changes version version_kind is_parenthesized stages value_alias
`);

/** Everything allowed in a query. Kinds and fields share one name space in this parser's trees. */
export const READ_NODES: ReadonlySet<string> = new Set([...EXPRESSIONS, ...FIELDS, ...AGGREGATE_KINDS]);

/** What a writing statement may hold besides; in a query none of these is allowed. */
export const WRITE_NODES: ReadonlySet<string> = new Set(
  words(`
  set on_conflict action conflict_keys conflict_action conflict_target duplicate default_values ignore output when then
  matched tables from_clause table_joins source by_source insert_alias returning if_exists overwrite
  `),
);

/** Kinds whose presence at the top makes a reading statement. */
export const QUERY_TOPS: ReadonlySet<string> = new Set(
  words('select union intersect except subquery values paren from pivot unpivot summarize'),
);

/** Fields that carry no meaning of their own. */
export const SKIPPED: ReadonlySet<string> = new Set([
  'span',
  'inferred_type',
  'leading_comments',
  'trailing_comments',
  'left_comments',
  'operator_comments',
  'comments',
  'quoted',
  'pre_alias_comments',
  'post_select_comments',
]);
