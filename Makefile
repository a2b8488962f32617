.DEFAULT_GOAL := help
.PHONY: help demo test lint types pytest format docs bench engines orchestrators feast-suite lock ci

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Compile, materialise, serve and check the example shop
	@./run demo

test: ## Lint, formatting, types and tests
	@./run test

lint: ## ruff only
	@./run lint

types: ## mypy only
	@./run types

pytest: ## Tests only
	@./run pytest

format: ## Rewrite the code in the house's format
	@./run format

docs: ## Build the documentation into site/
	@./run docs

bench: ## Measure beside peers and write benchmarks.html
	@./run bench --html benchmarks.html

engines: ## Make training sets by Ray and Spark, and read from Kafka
	@./run engines

orchestrators: ## Run the pipeline by Airflow, Dagster, Prefect and others
	@./run orchestrators

feast-suite: ## Run Feast's own tests on our stores: make feast-suite FEAST=path/of/feast
	@./run feast-suite $(FEAST)

lock: ## Write locks/ anew, with the newest versions that pyproject.toml allows
	@./run lock

ci: ## What the build server runs: the tests in a fresh environment
	@.ci/run
