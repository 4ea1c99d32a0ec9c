-- Every statement of the store of accounts, by name. `?` is a parameter.

-- ------------------------------------------------------------ accounts
-- name: account_add
INSERT INTO account (name, role, teams, password, created_at, disabled_at) VALUES (?, ?, ?, ?, ?, ?)
-- name: accounts
SELECT name, role, teams, password, created_at, disabled_at FROM account ORDER BY name
-- name: account
SELECT name, role, teams, password, created_at, disabled_at FROM account WHERE name = ?
-- name: account_disable
UPDATE account SET disabled_at = ? WHERE name = ? AND disabled_at = 0

-- ------------------------------------------------------------ tokens
-- name: token_add
INSERT INTO token (id, hash, name, kind, role, scopes, teams, on_behalf_of, made_by, created_at, expires_at, revoked_at, used_at, root, parent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
-- name: tokens
SELECT id, hash, name, kind, role, scopes, teams, on_behalf_of, made_by, created_at, expires_at, revoked_at, used_at, root, parent
FROM token ORDER BY created_at DESC, id
-- name: token_by_hash
SELECT id, hash, name, kind, role, scopes, teams, on_behalf_of, made_by, created_at, expires_at, revoked_at, used_at, root, parent
FROM token WHERE hash = ?

-- A token, the token that it was made with, and so on.
-- name: token_line
WITH RECURSIVE up (n, id) AS (
  SELECT 0, ? UNION ALL SELECT up.n + 1, token.parent FROM up JOIN token ON token.id = up.id WHERE up.n + 1 < ?)
SELECT token.id, hash, name, kind, role, scopes, teams, on_behalf_of, made_by, created_at, expires_at, revoked_at, used_at, root, parent
FROM up JOIN token ON token.id = up.id ORDER BY up.n

-- A token and all that were made with it, and with those.
-- name: tokens_below
WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT token.id FROM below JOIN token ON token.parent = below.id)
SELECT id FROM below

-- name: token_revoke
UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at = 0
-- name: token_root
SELECT root FROM token WHERE id = ?
-- name: token_place
UPDATE token SET parent = ? WHERE id = ?

-- Another person answers for a token and those below it; agents act for that person, too.
-- name: tokens_below_hand_over
WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT token.id FROM below JOIN token ON token.parent = below.id)
UPDATE token SET root = ?, on_behalf_of = CASE WHEN on_behalf_of = ? AND ? <> '' THEN ? ELSE on_behalf_of END
WHERE root = ? AND id IN below
-- name: token_used
UPDATE token SET used_at = ? WHERE id = ?

-- ------------------------------------------------------------ sessions
-- name: session_add
INSERT INTO session (hash, id, person, how, csrf, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
-- name: session
SELECT hash, id, person, how, csrf, created_at, expires_at FROM session WHERE hash = ?
-- name: sessions
SELECT hash, id, person, how, csrf, created_at, expires_at FROM session WHERE expires_at > ? ORDER BY created_at DESC, id LIMIT ?
-- name: session_end
DELETE FROM session WHERE id = ?
-- name: sessions_end_expired
DELETE FROM session WHERE expires_at <= ?
-- name: sessions_beyond
SELECT id FROM session WHERE person = ? ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?
-- name: sessions_end_of
DELETE FROM session WHERE person = ?

-- ------------------------------------------------------------ sign-in links
-- name: link_add
INSERT INTO link (hash, person, expires_at) VALUES (?, ?, ?)
-- name: link
SELECT hash, person, expires_at FROM link WHERE hash = ?
-- name: link_end
DELETE FROM link WHERE hash = ?
-- name: links_end_expired
DELETE FROM link WHERE expires_at <= ?
