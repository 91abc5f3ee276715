//! The condition language says the same in memory and in PostgreSQL, over random conditions, records and callers.
//!
//! With `DAYBOOK_CONDITION_FILE` the cases and both answers are written down, a JSON object on each line, for a judge from
//! outside: `node tests/js/conditions.mjs <file>`. `DAYBOOK_CONDITION_CASES` and `DAYBOOK_CONDITION_SEED` say how many and which.

mod cases;

use cases::{CREATE, Cases, Record, WORDS, head, moment, places, written, written_claims};
use daybook_domain::condition::{Condition, Truth, Value};
use daybook_projections::read::condition::condition_sql;
use daybook_testing::TestDatabase;
use serde_json::{Map, Value as Json, json};
use std::io::Write;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

const RECORDS: usize = 400;
/// Records that a condition is tried on.
const EACH: usize = 5;

fn of_environment(name: &str, unless: u64) -> u64 {
    std::env::var(name).ok().map_or(unless, |text| text.parse().expect(name))
}

async fn store(session: &Client, records: &[Record]) {
    session.batch_execute(CREATE).await.unwrap();
    for (id, record) in records.iter().enumerate() {
        let (id, get) = (i64::try_from(id).unwrap(), |field: &str| record.get(field));
        let flag = get("flag").map(|value| *value == Value::Flag(true));
        let owner = get("owner").and_then(|value| if let Value::Id(id) = value { Some(*id) } else { None });
        let text = |field| get(field).and_then(|value| if let Value::Text(t) = value { Some(t.clone()) } else { None });
        let whole = |field| get(field).and_then(|value| if let Value::Whole(n) = value { Some(*n) } else { None });
        let small = whole("small").map(|n| i32::try_from(n).unwrap());
        let (text, key, at, whole) = (text("text"), text("key"), get("at").and_then(moment), whole("whole"));
        let values: [&(dyn ToSql + Sync); 8] = [&id, &flag, &owner, &text, &key, &at, &whole, &small];
        session.execute("insert into records values ($1, $2, $3, $4, $5, $6, $7, $8)", &values).await.unwrap();
    }
}

fn truth(answer: Option<bool>) -> Truth {
    answer.map_or(Truth::Unknown, Truth::from)
}

#[tokio::test]
async fn memory_and_postgresql_agree_on_random_conditions() {
    let cases = usize::try_from(of_environment("DAYBOOK_CONDITION_CASES", 5_000)).unwrap();
    let seed = of_environment("DAYBOOK_CONDITION_SEED", 5);
    let mut file = std::env::var("DAYBOOK_CONDITION_FILE")
        .ok()
        .map(|path| std::io::BufWriter::new(std::fs::File::create(path).expect("DAYBOOK_CONDITION_FILE")));
    let database = TestDatabase::new().await;
    let session = database.superuser().await;
    let mut random = Cases::new(seed);
    let records: Vec<Record> = (0..RECORDS).map(|_| random.record()).collect();
    store(&session, &records).await;
    if let Some(file) = &mut file {
        writeln!(file, "{}", head(seed, cases)).unwrap();
    }
    let (mut judged, mut seen) = (0, [0_usize; 3]);
    while judged < cases {
        let json = random.condition(0);
        let condition = Condition::parse("condition", &json, WORDS).expect("what is generated fits");
        let claims = random.claims();
        let mut parameters = Vec::new();
        let sql = condition_sql(&condition, &claims, places, &mut parameters);
        let some: Vec<usize> = (0..EACH).map(|_| random.below(RECORDS)).collect();
        let ids: Vec<i64> = some.iter().map(|id| i64::try_from(*id).unwrap()).collect();
        parameters.push(Box::new(ids));
        let sql = format!(
            "select {sql} from unnest(${}::bigint[]) with ordinality as asked(id, nth) join records using (id) order by nth",
            parameters.len()
        );
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
        let rows = session.query(&sql, &parameters).await.unwrap_or_else(|error| panic!("{json}: {error:?}"));
        assert_eq!(rows.len(), EACH);
        for (id, row) in some.iter().zip(rows) {
            let record = &records[*id];
            let in_memory = condition.judge(&|field: &str| record.get(field).cloned(), &claims);
            let in_sql = truth(row.get(0));
            assert_eq!(in_memory, in_sql, "seed {seed}: {json} of {record:?} to {claims:?}, as SQL {sql}");
            seen[in_memory as usize] += 1;
            judged += 1;
            if let Some(file) = &mut file {
                let record: Map<String, Json> = record.iter().map(|(k, v)| ((*k).to_owned(), written(v))).collect();
                let claims = written_claims(&claims);
                let answer = |truth: Truth| format!("{truth:?}").to_lowercase();
                let (memory, sql) = (answer(in_memory), answer(in_sql));
                let line = json!({"condition": json, "record": record, "claims": claims, "memory": memory, "sql": sql});
                writeln!(file, "{line}").unwrap();
            }
        }
    }
    // A generator that only ever says one thing would prove nothing.
    assert!(seen.iter().all(|of_one| *of_one > cases / 10), "false, unknown, true: {seen:?}");
}
