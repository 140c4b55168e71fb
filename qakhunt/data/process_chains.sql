-- Which record is which process, and whose child, in DuckDB. What is read is the table raw, of the
-- fields of a Creation; the table parents has one row a process with its time, its other log's record
-- and its parent's, the view processes its row in Defender's columns.

-- What resolving needs of each record, apart from the wide table.
CREATE TABLE keys AS
SELECT rowid AS seq, device, source, log, record_id, created, logged, process_id, guid,
    lower(path) AS image, hash(lower(line)) AS line_hash,
    parent_id, parent_guid, lower(parent_path) AS parent_image
FROM raw;

-- A log whose times are off by whole quarters of an hour wrote local time as UTC.
CREATE TABLE clock AS
SELECT device, source, (mode(round((created - logged) / 9e11)) * 9e11)::BIGINT AS shift
FROM keys WHERE created IS NOT NULL AND logged IS NOT NULL
GROUP BY device, source HAVING shift <> 0;

-- Each record once, with its time.
CREATE TABLE creations AS
SELECT keys.*, coalesce(created, logged + coalesce(shift, 0)) AS made
FROM keys LEFT JOIN clock USING (device, source)
QUALIFY row_number() OVER (
    PARTITION BY device, log, process_id, guid, made, line_hash ORDER BY seq) = 1;

-- In the order of its records a log's time may only grow; files written newest first
-- fall in small steps, a clock that is set back falls in one.
CREATE TABLE jumps AS
SELECT DISTINCT device FROM (
    SELECT device, source, log,
        made - lag(made) OVER (
            PARTITION BY device, source, log ORDER BY coalesce(record_id, 0), seq) AS step
    FROM creations
) GROUP BY device, source, log
HAVING count(*) FILTER (WHERE step < -300e9) > 0
    AND count(*) FILTER (WHERE step > 0) >= count(*) FILTER (WHERE step < 0);

-- One process, recorded by both logs.
CREATE TABLE pairs AS
WITH candidates AS (
    SELECT s.seq AS sysmon, e.seq AS security, abs(s.made - e.made) AS apart
    FROM creations s JOIN creations e
        ON s.device = e.device AND s.process_id = e.process_id AND s.image = e.image
    WHERE s.log = 'Sysmon' AND e.log = 'Security'
    UNION ALL
    SELECT s.seq, e.seq, abs(s.made - e.made)
    FROM creations s JOIN creations e
        ON s.device = e.device AND s.image = e.image AND s.line_hash = e.line_hash
    WHERE s.log = 'Sysmon' AND e.log = 'Security' AND s.process_id IS NULL
)
SELECT sysmon, security FROM candidates WHERE apart <= 2e9
QUALIFY row_number() OVER (PARTITION BY sysmon ORDER BY apart, security) = 1
    AND row_number() OVER (PARTITION BY security ORDER BY apart, sysmon) = 1;

-- Processes in the order in which they began; where a clock jumped, the log's own. A
-- process id that a collector lost stands in the other log or in a child's record.
CREATE TABLE ordered AS
SELECT c.* REPLACE (coalesce(c.process_id, e.process_id, k.process_id) AS process_id),
    pairs.security AS twin,
    row_number() OVER (
        PARTITION BY c.device
        ORDER BY CASE WHEN j.device IS NULL THEN c.made ELSE 0 END,
            coalesce(c.record_id, 0), c.seq) AS turn
FROM creations c
LEFT JOIN jumps j ON j.device = c.device
LEFT JOIN pairs ON pairs.sysmon = c.seq
LEFT JOIN creations e ON e.seq = pairs.security
LEFT JOIN (
    SELECT parent_guid, max(parent_id) AS process_id FROM creations
    WHERE parent_guid <> '' GROUP BY parent_guid
) k ON c.process_id IS NULL AND k.parent_guid = c.guid AND c.guid <> ''
WHERE c.seq NOT IN (SELECT security FROM pairs);

-- The parent: by Sysmon's GUID, else the newest earlier process of that id and image.
-- A GUID begins with the machine and the second in which the process began; Sysmon
-- may write another end for it in a child's record.
CREATE TABLE parents AS
WITH by_guid AS (
    SELECT c.seq, min(p.seq) AS parent FROM ordered c JOIN ordered p
        ON p.guid = c.parent_guid AND c.parent_guid <> '' AND p.seq <> c.seq
    GROUP BY c.seq
), by_id AS (
    SELECT c.seq, p.seq AS parent
    FROM ordered c ASOF JOIN ordered p
        ON c.device = p.device AND c.parent_id = p.process_id AND c.turn > p.turn
    WHERE (c.parent_image = '' OR p.image = c.parent_image)
        AND (c.parent_guid = '' OR p.guid = '' OR c.parent_guid[:20] = p.guid[:20])
), found AS (
    SELECT seq, parent FROM by_guid
    UNION ALL SELECT seq, parent FROM by_id WHERE seq NOT IN (SELECT seq FROM by_guid)
)
SELECT c.seq, c.twin, c.made, c.process_id, f.parent,
    p.made AS parent_made, p.parent_id AS grand_id, p.parent_guid AS grand_guid,
    g.made AS grand_made
FROM ordered c
LEFT JOIN found f ON f.seq = c.seq
LEFT JOIN ordered p ON p.seq = f.parent
LEFT JOIN found fg ON fg.seq = p.seq
LEFT JOIN ordered g ON g.seq = fg.parent;

-- The last part of a path.
CREATE MACRO file_name(path) AS regexp_extract(path, '[^\\/]*$');

-- The first text that is there and not empty.
CREATE MACRO known(a, b) AS coalesce(nullif(a, ''), nullif(b, ''), ''),
    (a, b, c) AS coalesce(nullif(a, ''), nullif(b, ''), nullif(c, ''), '');

-- The second that a Sysmon GUID holds, in nanoseconds since 1970.
CREATE MACRO guid_time(guid) AS CASE
    WHEN regexp_matches(trim(guid, '{}'), '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-') THEN
        ('0x' || substr(trim(guid, '{}'), 15, 4) || substr(trim(guid, '{}'), 10, 4))::BIGINT
        * 1000000000
END;

-- Defender's columns. k: the keys resolved; r: the record; e: the other log's; p: the parent's.
CREATE VIEW processes AS SELECT
    make_timestamp_ns(k.made) AS Timestamp,
    sha1(r.device) AS DeviceId,
    r.device AS DeviceName,
    'ProcessCreated' AS ActionType,
    file_name(r.path) AS FileName,
    r.path AS FolderPath,
    r.sha1 AS SHA1,
    r.sha256 AS SHA256,
    r.md5 AS MD5,
    r.company AS ProcessVersionInfoCompanyName,
    r.product AS ProcessVersionInfoProductName,
    r.original_name AS ProcessVersionInfoOriginalFileName,
    r.description AS ProcessVersionInfoFileDescription,
    k.process_id AS ProcessId,
    r.line AS ProcessCommandLine,
    known(r.integrity, e.integrity) AS ProcessIntegrityLevel,
    known(r.elevation, e.elevation) AS ProcessTokenElevation,
    make_timestamp_ns(k.made) AS ProcessCreationTime,
    r.domain AS AccountDomain,
    r.account AS AccountName,
    known(r.sid, e.sid) AS AccountSid,
    r.logon_id AS LogonId,
    r.session AS CreatedProcessSessionId,
    known(r.parent_domain, e.parent_domain, p.domain) AS InitiatingProcessAccountDomain,
    known(r.parent_account, e.parent_account, p.account) AS InitiatingProcessAccountName,
    known(r.parent_sid, e.parent_sid, p.sid) AS InitiatingProcessAccountSid,
    p.logon_id AS InitiatingProcessLogonId,
    p.session AS InitiatingProcessSessionId,
    coalesce(p.integrity, '') AS InitiatingProcessIntegrityLevel,
    coalesce(p.elevation, '') AS InitiatingProcessTokenElevation,
    coalesce(p.sha1, '') AS InitiatingProcessSHA1,
    coalesce(p.sha256, '') AS InitiatingProcessSHA256,
    coalesce(p.md5, '') AS InitiatingProcessMD5,
    coalesce(p.company, '') AS InitiatingProcessVersionInfoCompanyName,
    coalesce(p.product, '') AS InitiatingProcessVersionInfoProductName,
    coalesce(p.original_name, '') AS InitiatingProcessVersionInfoOriginalFileName,
    coalesce(p.description, '') AS InitiatingProcessVersionInfoFileDescription,
    file_name(known(r.parent_path, p.path)) AS InitiatingProcessFileName,
    lower(known(r.parent_path, p.path)) AS InitiatingProcessFolderPath,
    r.parent_id AS InitiatingProcessId,
    known(r.parent_line, p.line) AS InitiatingProcessCommandLine,
    make_timestamp_ns(coalesce(k.parent_made, guid_time(r.parent_guid))) AS InitiatingProcessCreationTime,
    k.grand_id AS InitiatingProcessParentId,
    coalesce(file_name(p.parent_path), '') AS InitiatingProcessParentFileName,
    make_timestamp_ns(coalesce(k.grand_made, guid_time(k.grand_guid))) AS InitiatingProcessParentCreationTime,
    r.record_id AS ReportId,
    CASE WHEN r.extra = '{}' THEN '' ELSE r.extra END AS AdditionalFields
FROM parents k JOIN raw r ON r.rowid = k.seq
LEFT JOIN raw e ON e.rowid = k.twin
LEFT JOIN raw p ON p.rowid = k.parent;
