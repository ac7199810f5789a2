-- Progress: one slot per sequence modulo the ring's size. See docs/decisions/0002.
CREATE TABLE IF NOT EXISTS tandem.ledger (
  origin       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'datacenter of the first commit',
  slot         INT UNSIGNED NOT NULL COMMENT 'sequence modulo the size of the ring',
  epoch        BIGINT UNSIGNED NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL COMMENT '0: nothing of this epoch yet',
  gtid         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  committed_us BIGINT UNSIGNED NOT NULL COMMENT 'commit at the origin, microseconds since 1970',
  PRIMARY KEY (origin, slot)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='what is applied; its rows mark replicated transactions in the binlog';

-- Events that have waited too long for a predecessor.
CREATE TABLE IF NOT EXISTS tandem.pending (
  origin         VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch          BIGINT UNSIGNED NOT NULL,
  seq            BIGINT UNSIGNED NOT NULL,
  last_committed BIGINT UNSIGNED NOT NULL COMMENT 'sequence that must be applied before',
  bytes          BIGINT UNSIGNED NOT NULL COMMENT 'length of payload',
  attrs          MEDIUMBLOB NOT NULL COMMENT 'CloudEvents attributes, JSON',
  payload        LONGBLOB NOT NULL,
  stored_at      TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (origin, epoch, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='events whose predecessor has not come yet';

CREATE TABLE IF NOT EXISTS tandem.dead_letter (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  origin       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch        BIGINT UNSIGNED NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  event_id     VARCHAR(255) NOT NULL,
  event_type   VARCHAR(255) NOT NULL,
  source       VARCHAR(255) NOT NULL,
  kind         VARCHAR(16) CHARACTER SET ascii NOT NULL COMMENT 'poison, blocked, statement, ddl-held',
  state        VARCHAR(16) CHARACTER SET ascii NOT NULL DEFAULT 'open' COMMENT 'open, skipped, replayed',
  reason       TEXT NOT NULL,
  attrs        MEDIUMBLOB NOT NULL COMMENT 'CloudEvents attributes, JSON',
  payload      LONGBLOB NOT NULL,
  parked_at    TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  published_at TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'NULL: not yet in the dead-letter topic',
  UNIQUE KEY event (origin, epoch, seq),
  KEY state (state, id),
  KEY published (published_at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='transactions that could not be applied';

-- Keys of open dead letters: later transactions on them are parked too.
CREATE TABLE IF NOT EXISTS tandem.dead_letter_key (
  index_hash     BIGINT UNSIGNED NOT NULL,
  key_hash       BIGINT UNSIGNED NOT NULL COMMENT '0 when wild',
  wild           TINYINT UNSIGNED NOT NULL COMMENT '1: any value of the index',
  mode           TINYINT UNSIGNED NOT NULL COMMENT '0 claim, 1 touch, 2 refer',
  dead_letter_id BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (dead_letter_id, index_hash, key_hash, wild, mode)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='what open dead letters block';

CREATE TABLE IF NOT EXISTS tandem.conflict_log (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at           TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  db           VARCHAR(64) NOT NULL,
  table_name   VARCHAR(64) NOT NULL,
  pk           LONGTEXT NOT NULL COMMENT 'key of the row, JSON',
  kind         VARCHAR(32) CHARACTER SET ascii NOT NULL COMMENT 'what the event met',
  decision     VARCHAR(255) NOT NULL COMMENT 'which side stands, and why',
  origin       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch        BIGINT UNSIGNED NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  gtid         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  local_image  LONGTEXT NULL COMMENT 'the row that stood here, JSON; NULL: none',
  before_image LONGTEXT NULL COMMENT 'of the event, JSON',
  after_image  LONGTEXT NULL COMMENT 'of the event, JSON',
  KEY row_at (db, table_name, at),
  KEY at (at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='rows that both sides wrote, with both images';

CREATE TABLE IF NOT EXISTS tandem.stream (
  origin       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  epoch        BIGINT UNSIGNED NOT NULL DEFAULT 0,
  seq          BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'newest sequence given out when the heartbeat was made',
  heartbeat_us BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'time of the newest heartbeat, microseconds since 1970'
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='newest heartbeat of each stream';
