//! Trees from what somebody asks for: bounded in every direction, and every refusal names its place in the input.

use super::{CONDITIONS_MAX, DEPTH_MAX, Field, Filter, LIST_MAX, Pattern, Refused, TEXT_CHARS_MAX, Test, Value};
use chrono::Datelike;

/// Years that a moment may lie in.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

/// Walks the input, knows where it is, and counts.
pub struct Builder {
    path: Vec<String>,
    conditions: usize,
    depth: usize,
}

impl Builder {
    /// `name`: of the argument.
    pub fn new(name: &str) -> Self {
        Builder { path: vec![name.to_owned()], conditions: 0, depth: 0 }
    }

    /// Does something at a member of where it is.
    ///
    /// # Errors
    /// As the function.
    pub fn at<T>(
        &mut self,
        step: impl ToString,
        inside: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.path.push(step.to_string());
        let built = inside(self);
        self.path.pop();
        built
    }

    /// As [`Builder::at`], one level deeper.
    ///
    /// # Errors
    /// When that is too deep or one condition too many, or as the function.
    pub fn inner<T>(
        &mut self,
        step: impl ToString,
        inside: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.at(step, |builder| {
            if builder.depth == DEPTH_MAX {
                return Err(builder.refused(format!("is more than {DEPTH_MAX} levels deep: nest less")));
            }
            builder.count()?;
            builder.depth += 1;
            let built = inside(builder);
            builder.depth -= 1;
            built
        })
    }

    /// A condition, folded as its field is stored.
    ///
    /// # Errors
    /// When there is one too many, or a value that no field can have.
    pub fn is<F: Field>(&mut self, field: F, test: Asked) -> Result<Filter<F>, Refused> {
        self.count()?;
        let fold = field.column().fold;
        let one = |value: Value| self.value(value, fold);
        let text = |text: String| self.text(&text).map(|()| text);
        let test = match test {
            Asked::Is(Test::Eq(value)) => Test::Eq(one(value)?),
            Asked::Is(Test::Ne(value)) => Test::Ne(one(value)?),
            Asked::Is(Test::In(values)) => Test::In(self.values(values, fold)?),
            Asked::Is(Test::NotIn(values)) => Test::NotIn(self.values(values, fold)?),
            Asked::Is(Test::Lt(value)) => Test::Lt(one(value)?),
            Asked::Is(Test::Lte(value)) => Test::Lte(one(value)?),
            Asked::Is(Test::Gt(value)) => Test::Gt(one(value)?),
            Asked::Is(Test::Gte(value)) => Test::Gte(one(value)?),
            Asked::Is(Test::StartsWith(start)) => Test::StartsWith(fold(&text(start)?)),
            Asked::Is(test @ (Test::IsNull(_) | Test::Like(_))) => test,
            Asked::Like(pattern) => {
                let pattern = Pattern::parse(&text(pattern)?, fold);
                Test::Like(pattern.map_err(|error| self.refused(error.to_string()))?)
            }
            Asked::Null => return Err(self.refused("is null: leave it out, or ask with isNull")),
        };
        Ok(Filter::Is(field, test))
    }

    /// A refusal of where it is.
    pub fn refused(&self, reason: impl Into<String>) -> Refused {
        Refused { path: self.path.clone(), reason: reason.into() }
    }

    fn count(&mut self) -> Result<(), Refused> {
        self.conditions += 1;
        if self.conditions <= CONDITIONS_MAX {
            return Ok(());
        }
        Err(self.refused(format!("is one condition too many: at most {CONDITIONS_MAX} are allowed in all")))
    }

    fn values(&self, values: Vec<Value>, fold: fn(&str) -> String) -> Result<Vec<Value>, Refused> {
        if values.len() > LIST_MAX {
            return Err(self.refused(format!("has {} values: at most {LIST_MAX} are allowed", values.len())));
        }
        values.into_iter().map(|value| self.value(value, fold)).collect()
    }

    fn value(&self, value: Value, fold: fn(&str) -> String) -> Result<Value, Refused> {
        match &value {
            Value::Text(text) if text.is_empty() => {
                Err(self.refused(format!("is empty: give 1 to {TEXT_CHARS_MAX} characters, or leave it out")))
            }
            Value::Text(text) => self.text(text).map(|()| Value::Text(fold(text))),
            Value::At(at) if !YEARS.contains(&at.year()) => {
                Err(self.refused(format!("lies outside of the years {} to {}", YEARS.start(), YEARS.end())))
            }
            Value::Flag(_) | Value::Id(_) | Value::At(_) | Value::Whole(_) => Ok(value),
        }
    }

    fn text(&self, text: &str) -> Result<(), Refused> {
        let count = text.chars().count();
        if count > TEXT_CHARS_MAX {
            return Err(self.refused(format!("has {count} characters: at most {TEXT_CHARS_MAX} are allowed")));
        }
        // No text that is filtered by has any, and PostgreSQL refuses one of them.
        if text.chars().any(char::is_control) {
            return Err(self.refused("has a control character: take it out"));
        }
        Ok(())
    }
}

/// What somebody asks of a field, as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    Is(Test),
    /// A pattern that is not read yet.
    Like(String),
    /// An operator with null, which would mean anything and nothing.
    Null,
}

impl<F> Filter<F> {
    /// All of them, in the simplest form.
    pub fn all(mut filters: Vec<Filter<F>>) -> Self {
        match filters.len() {
            1 => filters.remove(0),
            _ => Filter::And(filters),
        }
    }
}
