-- Every statement of the state store, by name, for SQLite and Postgres. `?` is a parameter.
-- A projection's statement is idempotent: applying an event twice leaves the same rows.

-- ------------------------------------------------------------ ledger
-- name: event_add
INSERT INTO event (seq, id, type, subject, cause, time, envelope) VALUES (?, ?, ?, ?, ?, ?, ?)
-- name: payload_add
INSERT INTO payload (seq, salt, body) VALUES (?, ?, ?)
-- name: payload_erase
DELETE FROM payload WHERE seq = ?
-- name: node_add
INSERT INTO node (level, idx, hash) VALUES (?, ?, ?)
-- name: checkpoint_add
INSERT INTO checkpoint (size, note, time) VALUES (?, ?, ?)
-- name: checkpoint_last_is
SELECT 1 WHERE COALESCE((SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1), '') = ?
-- name: checkpoint_last
SELECT size, note, time FROM checkpoint ORDER BY size DESC LIMIT 1
-- name: checkpoints
SELECT size, note, time FROM checkpoint ORDER BY size
-- name: event_seq_at
SELECT seq FROM event WHERE time <= ? ORDER BY seq DESC LIMIT 1
-- name: event_head
SELECT seq, id, time FROM event ORDER BY seq DESC LIMIT 1
-- name: events_after
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq >= ? ORDER BY e.seq LIMIT ?
-- name: event_by_id
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.id = ?
-- name: event_by_seq
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq = ?
-- name: events_of_both
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.subject = ? AND e.type = ? ORDER BY e.seq LIMIT ?
-- name: event_last_of
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.subject = ? AND e.type = ? ORDER BY e.seq DESC LIMIT 1
-- name: events_of_subject
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.subject = ? AND e.seq < ? ORDER BY e.seq DESC LIMIT ?
-- name: event_newest_of
SELECT id FROM event WHERE subject = ? ORDER BY seq DESC LIMIT 1
-- name: event_newest_is
SELECT 1 FROM event WHERE seq = (SELECT MAX(seq) FROM event WHERE subject = ?) AND id = ?
-- name: event_types_after
SELECT seq, type, subject FROM event WHERE seq > ? ORDER BY seq LIMIT ?
-- name: events_of_type
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.type = ? ORDER BY e.seq
-- name: events_of_promises
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.type = 'promise.made' UNION ALL SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.type = 'promise.settled' ORDER BY 1
-- name: event_envelopes
SELECT envelope FROM event WHERE seq >= ? AND seq < ? ORDER BY seq
-- name: events_whole
SELECT e.seq, e.id, e.type, e.subject, e.cause, e.time, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq
-- name: event_span
SELECT COUNT(*), MIN(seq), MAX(seq) FROM event
-- name: event_seq
SELECT seq FROM event WHERE id = ?
-- name: payload_strays
SELECT p.seq FROM payload p LEFT JOIN event e ON e.seq = p.seq WHERE e.seq IS NULL ORDER BY p.seq LIMIT ?
-- name: nodes
SELECT level, idx, hash FROM node ORDER BY level, idx
-- name: node_at
SELECT hash FROM node WHERE level = ? AND idx = ?

-- ------------------------------------------------------------ project, graph
-- name: project_set
INSERT INTO project (name, manifest, loaded_at) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET manifest = excluded.manifest, loaded_at = excluded.loaded_at
-- name: project_get
SELECT name, manifest, loaded_at FROM project ORDER BY loaded_at DESC LIMIT 1
-- name: asset_set
INSERT INTO asset (id, kind, mode, owner, tier, doc, declared_at, retired_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, owner = excluded.owner, tier = excluded.tier, doc = excluded.doc, declared_at = excluded.declared_at, retired_at = 0
-- name: asset_retire
UPDATE asset SET retired_at = ? WHERE id = ?
-- name: asset_get
SELECT doc, retired_at FROM asset WHERE id = ?
-- name: assets
SELECT id, doc, declared_at FROM asset WHERE retired_at = 0 ORDER BY id
-- name: observed_seen
SELECT a.id, a.doc, e.time, e.type FROM asset AS a JOIN event AS e ON e.seq = (SELECT MAX(n.seq) FROM event AS n WHERE n.subject = a.id) WHERE a.mode = 'observed' AND a.retired_at = 0 ORDER BY a.id
-- name: assets_declared
SELECT doc FROM asset
-- name: edge_set
INSERT INTO edge (source, target, kind, valid_from, valid_to) VALUES (?, ?, ?, ?, 0) ON CONFLICT (source, target, kind, valid_from) DO NOTHING
-- name: edge_end
UPDATE edge SET valid_to = ? WHERE source = ? AND target = ? AND kind = ? AND valid_to = 0
-- name: edges_at
SELECT source, target, kind, valid_from, valid_to FROM edge WHERE valid_from <= ? AND (valid_to = 0 OR valid_to > ?) ORDER BY source, target, kind

-- ------------------------------------------------------------ environments and pointers
-- name: env_set
INSERT INTO env (name, parent, created_at, dropped_at) VALUES (?, ?, ?, 0) ON CONFLICT (name) DO UPDATE SET parent = excluded.parent, created_at = excluded.created_at, dropped_at = 0, frozen = 0, expires_at = 0
-- name: env_settings
UPDATE env SET frozen = ?, expires_at = ? WHERE name = ?
-- name: env_drop
UPDATE env SET dropped_at = ? WHERE name = ?
-- name: env_pointers_drop
DELETE FROM pointer WHERE env = ?
-- name: env_held_drop
DELETE FROM held WHERE env = ?
-- name: env_withdrawn_drop
DELETE FROM withdrawn WHERE env = ?
-- name: env_ticks_drop
DELETE FROM tick WHERE env = ?
-- name: env_is
SELECT 1 FROM env WHERE name = ? AND created_at = ? AND dropped_at = 0 AND frozen = 0
-- name: envs
SELECT name, parent, created_at, frozen, expires_at FROM env WHERE dropped_at = 0 ORDER BY name
-- name: pointer_set
INSERT INTO pointer (env, asset, version, release, moved_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (env, asset) DO UPDATE SET version = excluded.version, release = excluded.release, moved_at = excluded.moved_at
-- name: pointer_delete
DELETE FROM pointer WHERE env = ? AND asset = ?
-- name: pointer_get
WITH RECURSIVE chain (name, depth) AS (SELECT CAST(? AS TEXT), 0 UNION ALL SELECT env.parent, chain.depth + 1 FROM chain JOIN env ON env.name = chain.name WHERE env.parent <> '') SELECT pointer.version, pointer.release, pointer.moved_at, pointer.env FROM pointer JOIN chain ON pointer.env = chain.name WHERE pointer.asset = ? ORDER BY chain.depth LIMIT 1
-- name: pointer_is
SELECT 1 FROM (SELECT COALESCE((WITH RECURSIVE chain (name, depth) AS (SELECT CAST(? AS TEXT), 0 UNION ALL SELECT env.parent, chain.depth + 1 FROM chain JOIN env ON env.name = chain.name WHERE env.parent <> '') SELECT pointer.version FROM pointer JOIN chain ON pointer.env = chain.name WHERE pointer.asset = ? ORDER BY chain.depth LIMIT 1), '') AS version) AS resolved WHERE resolved.version = ?
-- name: pointers
WITH RECURSIVE chain (name, depth) AS (SELECT CAST(? AS TEXT), 0 UNION ALL SELECT env.parent, chain.depth + 1 FROM chain JOIN env ON env.name = chain.name WHERE env.parent <> '') SELECT pointer.asset, pointer.version, pointer.release, pointer.moved_at, pointer.env FROM pointer JOIN chain ON pointer.env = chain.name ORDER BY chain.depth DESC, pointer.asset
-- name: columns_live
SELECT pointer.asset, version.doc FROM pointer JOIN version ON version.asset = pointer.asset AND version.digest = pointer.version
-- name: columns_moved
SELECT pointer.asset, version.doc FROM release_move JOIN pointer ON pointer.env = release_move.env AND pointer.asset = release_move.asset JOIN version ON version.asset = pointer.asset AND version.digest = pointer.version WHERE release_move.release = ?
-- name: pointers_all
SELECT env, asset, version FROM pointer ORDER BY env, asset

-- ------------------------------------------------------------ versions
-- name: version_add
INSERT INTO version (asset, digest, parent, locator, run, code, rows, size_bytes, doc, created_at, refused, expired_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (asset, digest) DO UPDATE SET locator = excluded.locator, refused = excluded.refused, expired_at = 0
-- name: version_reuse
UPDATE version SET locator = ?, refused = ?, expired_at = 0 WHERE asset = ? AND digest = ?
-- name: version_relocate
UPDATE version SET locator = ? WHERE asset = ? AND digest = ?
-- name: version_expire
UPDATE version SET expired_at = ? WHERE asset = ? AND digest = ?
-- name: version_get
SELECT doc, locator, expired_at, parent, created_at, refused FROM version WHERE asset = ? AND digest = ?
-- name: version_like
SELECT digest FROM version WHERE asset = ? AND digest LIKE ? LIMIT 2
-- name: versions
SELECT digest, doc, locator, expired_at FROM version WHERE asset = ? AND created_at < ? ORDER BY created_at DESC LIMIT ?
-- name: version_children
SELECT digest FROM version WHERE asset = ? AND parent = ? ORDER BY digest
-- name: version_expired_is
SELECT 1 FROM version WHERE asset = ? AND digest = ? AND expired_at > 0
-- name: version_unused
SELECT 1 FROM version WHERE asset = ? AND digest = ? AND locator = ? AND expired_at = 0 AND NOT EXISTS (SELECT 1 FROM pointer WHERE pointer.asset = version.asset AND pointer.version = version.digest) AND NOT EXISTS (SELECT 1 FROM open_move JOIN release_move ON release_move.release = open_move.release WHERE release_move.asset = version.asset AND (release_move.source = version.digest OR release_move.target = version.digest))
-- name: version_at
SELECT 1 FROM version WHERE asset = ? AND digest = ? AND locator = ? AND expired_at = 0
-- name: versions_expired_since
SELECT locator FROM version WHERE expired_at >= ?
-- name: versions_left
SELECT m.asset, m.source, MAX(r.changed_at) FROM release_move m JOIN release r ON r.id = m.release JOIN version v ON v.asset = m.asset AND v.digest = m.source WHERE v.expired_at = 0 GROUP BY m.asset, m.source
-- name: located_since
SELECT subject FROM event WHERE type = 'version.created' AND time >= ? UNION SELECT subject FROM event WHERE type = 'version.reused' AND time >= ? UNION SELECT subject FROM event WHERE type = 'version.restored' AND time >= ? UNION SELECT subject FROM event WHERE type = 'version.relocated' AND time >= ?
-- name: versions_kept
SELECT asset, digest, locator, created_at FROM version WHERE expired_at = 0 ORDER BY asset, created_at
-- name: part_add
INSERT INTO part (asset, version, partition, digest, rows, code, inputs) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (asset, version, partition) DO UPDATE SET code = excluded.code, inputs = excluded.inputs
-- name: parts_of
SELECT partition, digest, rows, code, inputs FROM part WHERE asset = ? AND version = ?
-- name: parts_memo
SELECT part.partition, part.version, part.digest, part.rows FROM part JOIN version ON version.asset = part.asset AND version.digest = part.version WHERE part.asset = ? AND part.partition = ? AND part.code = ? AND part.inputs = ? AND part.rows >= 0 AND version.expired_at = 0 ORDER BY version.created_at DESC LIMIT 10
-- name: parts_kept
SELECT part.partition, part.inputs, part.digest FROM part JOIN version ON version.asset = part.asset AND version.digest = part.version WHERE part.asset = ? AND part.code = ? AND part.rows >= 0 AND version.expired_at = 0 AND version.refused = '' ORDER BY version.created_at
-- name: made_add
INSERT INTO made (asset, partition, code, inputs, digest) VALUES (?, ?, ?, ?, ?) ON CONFLICT (asset, partition, code, inputs) DO UPDATE SET digest = excluded.digest
-- name: made_of
SELECT partition, code, inputs, digest FROM made WHERE asset = ?
-- name: provenance_add
INSERT INTO provenance (asset, version, upstream, upstream_version) VALUES (?, ?, ?, ?) ON CONFLICT (asset, version, upstream, upstream_version) DO NOTHING
-- name: provenance_downstream
SELECT asset, version FROM provenance WHERE upstream = ? AND upstream_version = ? ORDER BY asset, version
-- name: withdrawn_add
INSERT INTO withdrawn (env, asset, version, release, reason, withdrawn_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (env, asset, version) DO NOTHING
-- name: withdrawn_is
SELECT 1 FROM withdrawn WHERE env = ? AND asset = ? AND version = ?
-- name: withdrawn_elsewhere
SELECT withdrawn.env FROM withdrawn JOIN env ON env.name = withdrawn.env WHERE withdrawn.env <> ? AND withdrawn.asset = ? AND withdrawn.version = ? AND env.dropped_at = 0 ORDER BY withdrawn.env
-- name: withdrawn_live
SELECT 1 FROM withdrawn WHERE env = ? AND asset = ? AND version = ? AND NOT EXISTS (SELECT 1 FROM pointer WHERE env = ? AND asset = ? AND version = ?)
-- name: tainted_live
SELECT 1 FROM tainted WHERE asset = ? AND version = ? AND NOT EXISTS (SELECT 1 FROM pointer WHERE env = ? AND asset = ? AND version = ?)
-- name: withdrawn_remove
DELETE FROM withdrawn WHERE env = ? AND asset = ? AND version = ?
-- name: withdrawn
SELECT asset, version, release, reason, withdrawn_at FROM withdrawn WHERE env = ? ORDER BY asset, withdrawn_at
-- name: held_add
INSERT INTO held (env, asset, partition, code, inputs, version, digest) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (env, asset, partition, code, inputs, digest) DO NOTHING
-- name: held_remove
DELETE FROM held WHERE env = ? AND asset = ? AND version = ?
-- name: held
WITH RECURSIVE chain (name) AS (SELECT CAST(? AS TEXT) UNION ALL SELECT env.parent FROM chain JOIN env ON env.name = chain.name WHERE env.parent <> '') SELECT asset, partition, code, inputs, version, digest FROM held JOIN chain ON held.env = chain.name ORDER BY asset, partition, code, inputs
-- name: held_elsewhere
SELECT DISTINCT held.env, held.asset, held.partition, held.code, held.inputs, held.version, held.digest FROM held JOIN env ON env.name = held.env WHERE held.env <> ? AND env.dropped_at = 0 ORDER BY held.env, held.asset, held.partition
-- name: answered_set
INSERT INTO answered (env, asset, partition, code, inputs, digest) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (env, asset, partition, code, inputs) DO UPDATE SET digest = excluded.digest
-- name: answered
WITH RECURSIVE chain (name, depth) AS (SELECT CAST(? AS TEXT), 0 UNION ALL SELECT env.parent, chain.depth + 1 FROM chain JOIN env ON env.name = chain.name WHERE env.parent <> '') SELECT answered.asset, answered.partition, answered.code, answered.inputs, answered.digest FROM answered JOIN chain ON answered.env = chain.name ORDER BY chain.depth DESC, answered.asset, answered.partition
-- name: env_answered_drop
DELETE FROM answered WHERE env = ?
-- name: tainted_add
INSERT INTO tainted (asset, version, source, source_version, tainted_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (asset, version, source, source_version) DO UPDATE SET tainted_at = excluded.tainted_at
-- name: tainted_remove
DELETE FROM tainted WHERE source = ? AND source_version = ?
-- name: tainted_since
SELECT 1 FROM tainted WHERE asset = ? AND version = ? AND tainted_at > ?
-- name: tainted
SELECT asset, version, source, source_version FROM tainted ORDER BY asset, version

-- ------------------------------------------------------------ runs, releases, checks, signals
-- name: run_set
INSERT INTO run (id, env, state, doc, started_at, finished_at, seal) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, doc = excluded.doc, finished_at = excluded.finished_at, seal = excluded.seal
-- name: run_get
SELECT id, env, state, doc, started_at, finished_at, seal FROM run WHERE id = ?
-- name: runs
SELECT id, env, state, doc, started_at, finished_at, seal FROM run WHERE started_at < ? ORDER BY started_at DESC, id DESC LIMIT ?
-- name: runs_open
SELECT id, env, state, doc, started_at, finished_at, seal FROM run WHERE finished_at = 0 ORDER BY started_at, id
-- name: release_set
INSERT INTO release (id, env, state, step, intent, run, doc, created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, step = excluded.step, doc = excluded.doc, changed_at = excluded.changed_at
-- name: release_move_add
INSERT INTO release_move (release, env, asset, source, target) VALUES (?, ?, ?, ?, ?) ON CONFLICT (release, env, asset) DO NOTHING
-- name: release_get
SELECT doc FROM release WHERE id = ?
-- name: release_in_state
SELECT 1 FROM release WHERE id = ? AND state = ? AND step = ?
-- name: releases
SELECT doc FROM release WHERE created_at < ? ORDER BY created_at DESC, id DESC LIMIT ?
-- name: releases_live_of_run
SELECT doc FROM release WHERE run = ? AND state = 'live' ORDER BY created_at, id
-- name: releases_open
SELECT doc FROM release WHERE state IN ('proposed', 'gated', 'waiting', 'rolling', 'paused', 'undoing', 'stuck') ORDER BY created_at, id
-- name: release_of_move
SELECT r.doc FROM release_move m JOIN release r ON r.id = m.release WHERE m.env = ? AND m.asset = ? AND m.target = ? AND r.intent = 'release' AND r.state IN ('live', 'rolled_back') ORDER BY r.created_at DESC LIMIT 1
-- name: release_newest_of
SELECT r.doc FROM release_move m JOIN release r ON r.id = m.release WHERE m.env = ? AND m.asset = ? ORDER BY m.release DESC LIMIT 1
-- name: releases_of_asset
SELECT r.doc FROM release_move m JOIN release r ON r.id = m.release WHERE m.asset = ? ORDER BY r.created_at DESC LIMIT ?
-- name: open_move_add
INSERT INTO open_move (env, asset, release) VALUES (?, ?, ?) ON CONFLICT (env, asset) DO NOTHING
-- name: open_move_remove
DELETE FROM open_move WHERE release = ?
-- name: open_move_get
SELECT release FROM open_move WHERE env = ? AND asset = ?
-- name: open_move_none_but
SELECT 1 FROM open_move WHERE env = ? AND asset = ? AND release <> ?
-- name: check_result_add
INSERT INTO check_result (seq, n, run, asset, version, name, partition, ok, severity, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (seq, n) DO NOTHING
-- name: check_results_of_run
SELECT doc FROM check_result WHERE run = ? ORDER BY seq, n
-- name: check_results_of_version
SELECT name, partition, ok FROM check_result WHERE asset = ? AND version = ? ORDER BY seq, n
-- name: check_result_of_sample
SELECT doc FROM check_result WHERE asset = ? AND doc LIKE ? ORDER BY seq DESC LIMIT 1
-- name: check_results_all
SELECT doc FROM check_result
-- name: signal_set
INSERT INTO signal (id, asset, kind, severity, doc, onset, closed_at) VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING
-- name: signal_close
UPDATE signal SET closed_at = ? WHERE id = ?
-- name: signal_repeat
UPDATE signal SET repeated = ? WHERE id = ?
-- name: signals
SELECT doc, closed_at FROM signal WHERE onset < ? ORDER BY onset DESC, id DESC LIMIT ?
-- name: signals_open
SELECT doc, repeated FROM signal WHERE asset = ? AND kind = ? AND closed_at = 0 ORDER BY onset, id
-- name: signals_open_count
SELECT count(*) FROM signal WHERE closed_at = 0
-- name: incident_set
INSERT INTO incident (id, state, doc, opened_at, closed_at) VALUES (?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING
-- name: incidents_open
SELECT doc, changed, closed_at FROM incident WHERE state = 'open' ORDER BY opened_at, id
-- name: incident_close
UPDATE incident SET state = 'closed', closed_at = ? WHERE id = ?
-- name: incident_reopen
UPDATE incident SET state = 'open', closed_at = 0 WHERE id = ?
-- name: incident_change
UPDATE incident SET changed = ? WHERE id = ?
-- name: incident_as_read
SELECT 1 FROM incident WHERE id = ? AND closed_at = ? AND changed = ?
-- name: tick_set
INSERT INTO tick (env, asset, fired_at) VALUES (?, ?, ?) ON CONFLICT (env, asset) DO UPDATE SET fired_at = excluded.fired_at
-- name: ticks
SELECT asset, fired_at FROM tick WHERE env = ? ORDER BY asset

-- ------------------------------------------------------------ run history
-- name: history_add
INSERT INTO history (run, n, body) VALUES (?, ?, ?)
-- name: history_of
SELECT n, body FROM history WHERE run = ? ORDER BY n
-- name: history_runs
SELECT DISTINCT run FROM history ORDER BY run
-- name: history_all
SELECT body FROM history
-- name: history_prune
DELETE FROM history WHERE run = ?

-- ------------------------------------------------------------ operational
-- name: lease_take
INSERT INTO lease (name, holder, fence, expires_at) VALUES (?, ?, 1, ?) ON CONFLICT (name) DO UPDATE SET fence = lease.fence + 1, holder = excluded.holder, expires_at = excluded.expires_at WHERE lease.expires_at < ? OR lease.expires_at > ?
-- name: lease_renew
UPDATE lease SET expires_at = ? WHERE name = ? AND holder = ? AND fence = ?
-- name: lease_get
SELECT holder, fence, expires_at FROM lease WHERE name = ?
-- name: lease_is
SELECT 1 FROM lease WHERE name = ? AND holder = ? AND fence = ?
-- name: lease_drop
UPDATE lease SET expires_at = 0 WHERE name = ? AND holder = ? AND fence = ?
-- name: leases
SELECT name, holder, fence, expires_at FROM lease ORDER BY name
-- name: meta_set
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
-- name: meta_add
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING
-- name: meta_get
SELECT value FROM meta WHERE key = ?

-- ------------------------------------------------------------ pages of lists, newest first; '' leaves a filter open
-- name: runs_page
SELECT id, doc, started_at FROM run WHERE (started_at < ? OR (started_at = ? AND id < ?)) AND (CAST(? AS TEXT) = '' OR env = ?) AND (CAST(? AS TEXT) = '' OR state = ?) ORDER BY started_at DESC, id DESC LIMIT ?
-- name: releases_page
SELECT id, doc, created_at FROM release WHERE (created_at < ? OR (created_at = ? AND id < ?)) AND (CAST(? AS TEXT) = '' OR env = ?) AND (CAST(? AS TEXT) = '' OR state = ?) AND (CAST(? AS TEXT) = '' OR EXISTS (SELECT 1 FROM release_move m WHERE m.release = release.id AND m.asset = ?)) ORDER BY created_at DESC, id DESC LIMIT ?
-- name: signals_page
SELECT id, doc, closed_at, onset, repeated FROM signal WHERE (onset < ? OR (onset = ? AND id < ?)) AND (CAST(? AS TEXT) = '' OR asset = ?) AND (CAST(? AS TEXT) = '' OR kind = ?) AND (CAST(? AS BIGINT) = 0 OR closed_at = 0) ORDER BY onset DESC, id DESC LIMIT ?
-- name: incidents_page
SELECT id, doc, changed, closed_at, opened_at FROM incident WHERE (opened_at < ? OR (opened_at = ? AND id < ?)) AND (CAST(? AS TEXT) = '' OR state = ?) ORDER BY opened_at DESC, id DESC LIMIT ?
-- name: versions_page
SELECT digest, doc, locator, expired_at, created_at, refused FROM version WHERE asset = ? AND (created_at < ? OR (created_at = ? AND digest < ?)) ORDER BY created_at DESC, digest DESC LIMIT ?
-- name: checks_page
SELECT seq, n, doc, run, version FROM check_result WHERE (seq < ? OR (seq = ? AND n < ?)) AND (CAST(? AS TEXT) = '' OR asset = ?) AND (CAST(? AS BIGINT) = 0 OR ok = 0) ORDER BY seq DESC, n DESC LIMIT ?
-- name: failed_checks_page
SELECT c.seq, c.n, c.doc, c.run, c.version, e.time, r.env FROM check_result c JOIN event e ON e.seq = c.seq LEFT JOIN run r ON r.id = c.run WHERE c.ok = 0 AND (c.seq < ? OR (c.seq = ? AND c.n < ?)) ORDER BY c.seq DESC, c.n DESC LIMIT ?
-- name: events_page
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq < ? AND (CAST(? AS TEXT) = '' OR e.subject = ? OR e.subject IN (SELECT release FROM release_move WHERE asset = ?) OR e.subject IN (SELECT asset || '@' || digest FROM version WHERE asset = ?)) AND (CAST(? AS TEXT) = '' OR e.type = ?) ORDER BY e.seq DESC LIMIT ?
-- name: runs_retrying
SELECT id FROM run WHERE id > ? AND doc LIKE ? ORDER BY id LIMIT ?
-- name: runs_between
SELECT id, doc FROM run WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?
-- name: releases_between
SELECT id, doc FROM release WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?
-- name: signals_between
SELECT id, doc, repeated FROM signal WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?
-- name: incidents_between
SELECT id, doc, changed, closed_at FROM incident WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?
-- name: versions_between
SELECT asset, digest FROM version WHERE digest >= ? AND digest <= ? ORDER BY digest, asset LIMIT ?
-- name: part_made_by
SELECT v.run, v.created_at FROM part p JOIN version v ON v.asset = p.asset AND v.digest = p.version WHERE p.asset = ? AND p.partition = ? AND p.digest = ? ORDER BY v.created_at LIMIT 1
-- name: part_made_before
SELECT 1 FROM part p JOIN version v ON v.asset = p.asset AND v.digest = p.version WHERE p.asset = ? AND p.version = ? AND EXISTS (SELECT 1 FROM part o JOIN version w ON w.asset = o.asset AND w.digest = o.version WHERE o.asset = p.asset AND o.partition = p.partition AND o.version <> p.version AND w.created_at < v.created_at) LIMIT 1
-- name: timeline_page
SELECT e.seq, e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq < ? AND e.time >= ? AND e.time < ? AND e.type NOT IN ('release.proposed', 'release.gated', 'release.rolling', 'run.started', 'version.confirmed', 'version.relocated', 'signal.repeated', 'hold.answered') AND (e.subject = ? OR e.subject IN (SELECT release FROM release_move WHERE asset = ? AND env = ?) OR e.subject IN (SELECT asset || '@' || digest FROM version WHERE asset = ?) OR e.subject IN (SELECT id FROM run WHERE id IN (SELECT run FROM version WHERE asset = ?) AND env = ?) OR e.subject IN (SELECT run FROM check_result WHERE asset = ?) OR e.subject IN (SELECT id FROM signal WHERE asset = ?) OR e.subject IN (SELECT id FROM incident WHERE doc LIKE ? OR changed LIKE ?)) ORDER BY e.seq DESC LIMIT ?
-- name: changes_page
SELECT seq, type, subject, time FROM event WHERE seq < ? AND time >= ? AND time < ? AND type IN ('release.live', 'project.loaded', 'asset.declared', 'asset.retired') ORDER BY seq DESC LIMIT ?
-- name: moves_live_since
SELECT event.seq, event.time, release_move.release, release_move.source, release_move.target FROM release_move JOIN event ON event.subject = release_move.release AND event.type = 'release.live' WHERE release_move.env = ? AND release_move.asset = ? AND event.seq > ? ORDER BY event.seq LIMIT ?
-- name: moves_of_release
SELECT asset, source, target FROM release_move WHERE release = ? AND env = ? ORDER BY asset
-- name: signal_get
SELECT doc, closed_at, repeated FROM signal WHERE id = ?
-- name: incident_get
SELECT doc, changed, closed_at FROM incident WHERE id = ?

-- ------------------------------------------------------------ rows that were pushed
-- name: inbox_add
INSERT INTO inbox (dataset, sender, batch, id, rows, body, blob, digest, actor, taken_at, folded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (dataset, sender, batch) DO NOTHING
-- name: inbox_get
SELECT rows, folded_at, refusal, digest FROM inbox WHERE dataset = ? AND sender = ? AND batch = ?
-- name: inbox_named
SELECT sender, rows, folded_at, refusal, actor FROM inbox WHERE dataset = ? AND batch = ? ORDER BY folded_at > 0, id LIMIT 100
-- name: inbox_queue
SELECT batch, rows FROM inbox WHERE dataset = ? AND folded_at = 0 AND refusal = '' ORDER BY id LIMIT ?
-- name: inbox_newest
SELECT id FROM inbox WHERE dataset = ? AND folded_at = 0 ORDER BY id DESC LIMIT 1
-- name: inbox_waiting
SELECT sender, batch, id, body, blob, actor, rows FROM inbox WHERE dataset = ? AND folded_at = 0 AND refusal = '' ORDER BY id LIMIT ?
-- name: inbox_waits
SELECT dataset, COUNT(*), SUM(rows), MIN(taken_at) FROM inbox WHERE folded_at = 0 AND refusal = '' GROUP BY dataset ORDER BY dataset
-- name: inbox_refused
SELECT dataset, sender, batch, refusal, actor, rows FROM inbox WHERE folded_at = 0 AND refusal <> '' ORDER BY dataset, id
-- name: inbox_page
SELECT batch, id, rows, actor, taken_at, refusal FROM inbox WHERE dataset = ? AND folded_at = 0 AND (taken_at < ? OR (taken_at = ? AND id < ?)) AND (CAST(? AS BIGINT) = 0 OR refusal <> '') ORDER BY taken_at DESC, id DESC LIMIT ?
-- name: inbox_fold
UPDATE inbox SET folded_at = ?, body = ?, blob = '' WHERE dataset = ? AND sender = ? AND batch = ? AND folded_at = 0
-- name: inbox_refuse
UPDATE inbox SET refusal = ? WHERE dataset = ? AND sender = ? AND batch = ? AND folded_at = 0 AND refusal = ?
-- name: inbox_drop
DELETE FROM inbox WHERE dataset = ? AND sender = ? AND batch = ? AND folded_at = 0 AND refusal = ?
-- name: inbox_forget
DELETE FROM inbox WHERE folded_at > 0 AND folded_at < ?
-- name: inbox_part_add
INSERT INTO inbox_part (dataset, partition, id, blob, rows) VALUES (?, ?, ?, ?, ?)
-- name: inbox_part_drop
DELETE FROM inbox_part WHERE dataset = ? AND partition = ? AND id = ?
-- name: inbox_parts
SELECT partition, id, blob, rows FROM inbox_part WHERE dataset = ? ORDER BY partition, id
-- name: inbox_blobs
SELECT blob FROM inbox_part UNION SELECT blob FROM inbox WHERE blob <> ''
-- name: inbox_key_add
INSERT INTO inbox_key (dataset, key, partition) VALUES (?, ?, ?) ON CONFLICT (dataset, key, partition) DO NOTHING
-- name: inbox_key_drop
DELETE FROM inbox_key WHERE dataset = ? AND key = ? AND partition = ?
-- name: inbox_keys
SELECT key, partition FROM inbox_key WHERE dataset = ? AND key IN (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
-- name: inbox_stream_get
SELECT folds, keyed FROM inbox_stream WHERE dataset = ?
-- name: inbox_stream_set
INSERT INTO inbox_stream (dataset, folds, keyed) VALUES (?, 1, ?) ON CONFLICT (dataset) DO UPDATE SET folds = inbox_stream.folds + 1, keyed = excluded.keyed WHERE inbox_stream.folds = ?
-- name: edges_ended
SELECT source, target, kind, valid_from FROM edge WHERE source = ? AND target = ? AND kind = ? AND valid_to = ?
