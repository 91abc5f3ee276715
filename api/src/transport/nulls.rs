//! Nulls where the specification wants them.
//!
//! When a field fails, async-graphql 7.2.1 leaves its key out of the object, also where the type forbids null, and a
//! client that trusts the schema breaks. This extension writes `null` for a nullable field and, for another, nulls
//! the nearest parent that may be null, up to `data`. Add it first to every schema: `.extension(SpecNulls)`. It
//! changes no error; what the fields mean is not its business.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_graphql::{
    PathSegment, QueryPathNode, QueryPathSegment, Response, ServerError, ServerResult, Value,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextResolve, ResolveInfo},
};

/// The extension's factory; one instance serves one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecNulls;

impl ExtensionFactory for SpecNulls {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Nulls::default())
    }
}

#[derive(Default)]
struct Nulls {
    /// Whether anything failed: without, a field costs no lock.
    failed: AtomicBool,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    errors: Vec<ServerError>,
    /// Paths of objects that hold a null which they may not hold. The empty path is `data`.
    void: HashSet<Vec<String>>,
    /// Paths of list items that became null. Whether they may is decided by the field that holds the list: the type
    /// that the executor names for an item is always a non-null one.
    items: Vec<Vec<String>>,
}

impl Failures {
    /// Nulls the items of a list that failed, or the lists around them, as the field's type allows. False when the
    /// field itself must be null.
    fn settle_items(&mut self, path: &[String], kind: &str, value: &mut Option<Value>) -> bool {
        let (own, others) = std::mem::take(&mut self.items).into_iter().partition(|item| item.starts_with(path));
        self.items = others;
        own.iter().all(|item| {
            let mut indexes = &item[path.len()..];
            while let Some((_, outer)) = indexes.split_last() {
                if nullable(item_type(kind, indexes.len())) {
                    return set_null(value, indexes);
                }
                indexes = outer;
            }
            false
        })
    }
}

fn nullable(kind: &str) -> bool {
    !kind.ends_with('!')
}

/// `[[Int!]]!` has `[Int!]` at depth 1 and `Int!` at depth 2.
fn item_type(kind: &str, depth: usize) -> &str {
    (0..depth).fold(kind, |kind, _| {
        let kind = kind.strip_suffix('!').unwrap_or(kind);
        kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')).unwrap_or(kind)
    })
}

fn set_null(value: &mut Option<Value>, indexes: &[String]) -> bool {
    let place = indexes.iter().try_fold(value.as_mut(), |place, index| match place {
        Some(Value::List(items)) => Some(items.get_mut(index.parse::<usize>().ok()?)),
        Some(Value::Null) => Some(None),
        _ => None,
    });
    match place {
        Some(Some(place)) => {
            *place = Value::Null;
            true
        }
        // A list around it is null already.
        Some(None) => true,
        None => false,
    }
}

impl Nulls {
    fn failures(&self) -> MutexGuard<'_, Failures> {
        // Every change is a single insertion, so a panic elsewhere leaves it whole.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Nulls {
    async fn execute(&self, ctx: &ExtensionContext<'_>, name: Option<&str>, next: NextExecute<'_>) -> Response {
        let mut response = next.run(ctx, name).await;
        if self.failed.swap(false, Relaxed) {
            // Taken, not read: a subscription executes many times.
            let Failures { errors, void, items: _ } = std::mem::take(&mut *self.failures());
            response.errors.extend(errors);
            if void.contains(&[][..]) {
                response.data = Value::Null;
            }
        }
        response
    }

    async fn resolve(
        &self,
        ctx: &ExtensionContext<'_>,
        info: ResolveInfo<'_>,
        next: NextResolve<'_>,
    ) -> ServerResult<Option<Value>> {
        let (node, kind) = (info.path_node, info.return_type);
        let result = next.run(ctx, info).await;
        if result.is_ok() && !self.failed.load(Relaxed) {
            return result;
        }
        let path = node.to_string_vec();
        let mut failures = self.failures();
        let is_item = matches!(node.segment, QueryPathSegment::Index(_));
        match result {
            Ok(mut value) => {
                let whole = !failures.void.remove(&path);
                if whole && (is_item || failures.settle_items(&path, kind, &mut value)) {
                    return Ok(value);
                }
            }
            Err(mut error) => {
                self.failed.store(true, Relaxed);
                if error.path.is_empty() {
                    error.path = segments(node);
                }
                failures.errors.push(error);
            }
        }
        if is_item {
            failures.items.push(path);
        } else if !nullable(kind) {
            failures.void.insert(node.parent.map(|parent| parent.to_string_vec()).unwrap_or_default());
        }
        // The executor unwraps the items of a list: it is always a value.
        Ok(Some(Value::Null))
    }
}

fn segments(node: &QueryPathNode<'_>) -> Vec<PathSegment> {
    let mut path: Vec<_> = std::iter::successors(Some(node), |node| node.parent)
        .map(|node| match node.segment {
            QueryPathSegment::Name(name) => PathSegment::Field(name.to_owned()),
            QueryPathSegment::Index(index) => PathSegment::Index(index),
        })
        .collect();
    path.reverse();
    path
}
