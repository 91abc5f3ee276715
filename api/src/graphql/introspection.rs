//! Who may ask what there is: introspection, and the "did you mean" of what is misspelt.
//!
//! Both tell names, and only to those who may know them. Everybody else is answered as if no name were known beyond those that
//! they have sent. GraphiQL asks with the token that it is given, so what it shows is what that token may see.

use super::audit::door::count;
use super::errors::{Code, error};
use crate::graphql::Parts;
use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextValidation};
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use async_graphql::{Error, ServerError, ServerResult, ValidationResult, Variables};
use daybook_app::{Credential, may};
use daybook_domain::Action;
use std::sync::Arc;

/// Who may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Introspection {
    /// Whoever has the permission `schema.read`.
    #[default]
    Permitted,
    /// Whoever has a credential.
    Members,
    Nobody,
}

impl Introspection {
    const ALL: [(&'static str, Introspection); 3] = [
        ("permitted", Introspection::Permitted),
        ("members", Introspection::Members),
        ("nobody", Introspection::Nobody),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    fn allows(self, credential: Option<&Credential>) -> bool {
        match (self, credential) {
            (Introspection::Permitted, Some(who)) => may(who, Action::SchemaRead, who.tenant),
            (Introspection::Members, Some(_)) => true,
            (Introspection::Nobody, _) | (_, None) => false,
        }
    }
}

impl std::str::FromStr for Introspection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, known)| *known);
        known.ok_or_else(|| "it is one of permitted, members, nobody".to_owned())
    }
}

/// What validation says after the name that it does not know.
const SUGGESTION: &str = " Did you mean";

pub(super) struct Gate(pub(super) Introspection);

impl ExtensionFactory for Gate {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Gate(self.0))
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Gate {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await?;
        let credential = ctx.data_opt::<Credential>();
        if !introspects(&document) || self.0.allows(credential) {
            return Ok(document);
        }
        if let (Some(credential), Some(parts)) = (credential, ctx.data_opt::<Arc<Parts>>()) {
            count(&parts.audit.access, credential, Action::SchemaRead, credential.tenant);
        }
        let remedy = match self.0 {
            Introspection::Permitted => "ask an administrator of the tenant for a role that allows it",
            Introspection::Members => "log in first",
            Introspection::Nobody => "it is switched off here; the schema is published with the program",
        };
        let Error { message, extensions, .. } =
            error(Code::Forbidden, format!("schema.read is not permitted: {remedy}"));
        Err(ServerError { extensions, ..ServerError::new(message, None) })
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let validated = next.run(ctx).await;
        if self.0.allows(ctx.data_opt::<Credential>()) {
            return validated;
        }
        validated.map_err(|mut errors| {
            for error in &mut errors {
                if let Some(at) = error.message.find(SUGGESTION) {
                    error.message.truncate(at);
                }
            }
            errors
        })
    }
}

/// Whether a document asks what there is, wherever it does. `__typename` tells nothing that was not asked for by name.
fn introspects(document: &ExecutableDocument) -> bool {
    fn within(set: &SelectionSet) -> bool {
        set.items.iter().any(|item| match &item.node {
            Selection::Field(field) => {
                matches!(field.node.name.node.as_str(), "__schema" | "__type") || within(&field.node.selection_set.node)
            }
            Selection::InlineFragment(fragment) => within(&fragment.node.selection_set.node),
            // Each is looked at by itself.
            Selection::FragmentSpread(_) => false,
        })
    }
    document.operations.iter().any(|(_, operation)| within(&operation.node.selection_set.node))
        || document.fragments.values().any(|fragment| within(&fragment.node.selection_set.node))
}
