# The commands of everyday work. `make help` lists them.
PYTHON ?= python3
VENV := .venv/bin
.DEFAULT_GOAL := help
export PYTHONDONTWRITEBYTECODE := 1

# Every target is a command.
.PHONY: $(shell sed -n 's/^\([a-z]*\):.*##.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## List the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup:  ## Install what this machine lacks: Debian packages, a virtual environment
	@$(PYTHON) -m evenkeel.host

up: setup  ## Run the whole platform on this machine
	@$(VENV)/python -m evenkeel up

down:  ## Remove it again
	@$(if $(wildcard .venv/evenkeel-lock),$(VENV)/python -m evenkeel down,echo "Nothing is set up here.")

status: setup  ## Zones, instances, image, health
	@$(VENV)/python -m evenkeel status

env: setup  ## Shell lines for your own tools: eval "$(make -s env)"
	@$(VENV)/python -m evenkeel env

bake: setup  ## Bake the image, unless one of the same inputs exists (TARGET=production: on AWS)
	@$(VENV)/python -m evenkeel bake

plan: setup  ## What Terraform would change (TARGET=production: on AWS)
	@$(VENV)/python -m evenkeel plan

gates: setup  ## What IMAGE=ami-... must be before it is rolled out; writes its manifest and SBOMs
	@$(VENV)/python -m evenkeel.release

deploy: setup  ## Roll the image out to the fleet (IMAGE=ami-...: another; ARGS=--check: only say what would be done)
	@$(VENV)/python -m evenkeel deploy

rollback: setup  ## Take the rollout under way back, or bring back what ran before
	@$(VENV)/python -m evenkeel rollback

releases: setup  ## What ran when, and what runs now
	@$(VENV)/python -m evenkeel releases

redrive: setup  ## Send the verification mails that were given up (QUEUE=refused: those refused; ARGS=--check: only list)
	@$(VENV)/python -m evenkeel redrive

mail: setup  ## What became of somebody's verification mails: EMAIL=ada@example.com
	@$(VENV)/python -m evenkeel mail

smoke: setup  ## Ask the running service from outside, as its clients do
	@$(VENV)/python -m evenkeel.smoke

test: setup lint  ## Every test: units, real parts, and the whole journey on a region of its own
	@$(VENV)/python -m evenkeel.test

roles: setup  ## Molecule: each role on a fresh machine, what it does there: ROLES="base signup"
	@$(VENV)/python -m evenkeel.roles $(ROLES)

docs: setup  ## Write the parts of the documentation that are made from what they describe
	@$(VENV)/python -m evenkeel.docs

rollouts: setup  ## The long tests: deploys under load, bad images, the release workflow run by act
	@$(VENV)/python -m evenkeel.test rollouts

conformance: setup  ## Run the tests of AWS's rules, and write docs/conformance.md from them
	@$(VENV)/python -m evenkeel.test twin journey --conformance

fuzz: setup  ## Send the service 10,000 requests that its contract allows and forbids (CASES=50000: more)
	@$(VENV)/python -m evenkeel.fuzz $(CASES)

previous: setup  ## Keep REF=v1.2.0 as the release whose code is tested on the newest schema
	@$(VENV)/python -m evenkeel.previous $(REF)

screenshots: setup  ## Take docs/pictures/pages anew, of each page at phone and desktop width
	@$(VENV)/python -m evenkeel.screenshots

lint: setup  ## Format, types, Ansible, Terraform, shell
	@$(VENV)/python -m evenkeel.lint

bench: setup  ## Measure, and write docs/scores.md: PARTS="alone signups service bakes deploys bad-images scale"
	@$(VENV)/python -m evenkeel.bench $(PARTS)

clean: down  ## Remove images, caches and the virtual environment too
	@rm -rf .state build .venv

lock: setup  ## Renew the hash-locked requirements from requirements/*.in (ARGS=--keep: only what was added)
	@$(VENV)/python -m evenkeel.lock $(ARGS)
