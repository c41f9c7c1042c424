#!/usr/bin/env bash
# A walk through the command line on the example antibodies.
#
#   examples/cli_walk.sh [DIRECTORY]
#
# writes a database and a table of hits to DIRECTORY (a new temporary one if left out).
set -euo pipefail
examples="$(cd "$(dirname "$0")" && pwd)"
work="${1:-$(mktemp -d)}"
db="$work/heavy.db"
step() { printf '\n== %s\n' "$*"; }

step "Index 120 heavy chains of an AIRR table, from standard input; its columns become metadata"
awk -F '\t' 'NR == 1 || ($1 ~ /^sim_h/ && ++n <= 120)' "$examples/repertoire.tsv" | plmsearch index "$db" -

step "The nearest chains of five new ones, with family, V gene and junction; sim_q5 has no family here"
plmsearch query "$db" "$examples/query.fasta" -k 3 \
    --format-output query,target,rank,score,clone_id,v_call,junction_aa

step "Neighbours of a stored chain: its vector is there already, so no model is loaded"
plmsearch query "$db" --id sim_h0010 -k 5 --exclude-self --format-output query,target,score,clone_id

step "A second embedding space, layer 4 of the same model, from the stored sequences"
plmsearch embed "$db" --layers 4
plmsearch query "$db" --id sim_h0010 -k 5 --exclude-self --layers 4 --format-output query,target,score,clone_id

step "What the database holds, and where it came from"
plmsearch info "$db"

step "Fifty hits of each query as a typed table for polars, pandas or DuckDB"
plmsearch query "$db" "$examples/query.fasta" -k 50 --format parquet -o "$work/hits.parquet" \
    --format-output query,target,rank,score,clone_id,v_call,j_call
echo "$work/hits.parquet"
