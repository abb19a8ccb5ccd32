# What the targets do is said by `make help`; how they do it is in Go (tools/).
GO := $(or $(shell command -v go),/usr/local/go/bin/go)
# Some tests need root: for namespaces, cgroups and loading what was built.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,-exec "sudo -E")
UNIT = $(shell $(GO) list ./... | grep -v /qemu-tests)
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help run demo-cluster demo-update test image bench setup check unit
.DEFAULT_GOAL := help

help:
	@echo 'make run          build the image, boot it in QEMU and log in'
	@echo 'make test         check, build and boot: everything that proves it works'
	@echo 'make demo-update  show a machine updating itself, and coming back from a broken update'
	@echo 'make demo-cluster three machines as one cluster, with a tour of it'
	@echo 'make image        build the image only, into build/'
	@echo 'make bench        print build times, sizes of images and updates, boot times, memory, PID 1 beside systemd, and etcd beside its forerunners'
	@echo 'make unit         formatting, vet and the tests that need no machine'
	@echo 'make setup        install the Debian packages that are missing'

setup:
	@$(GO) run ./tools/setup

run: image
	$(GO) run ./tools/coracle run

image: setup
	$(GO) run ./tools/coracle build

demo-update: image
	$(GO) run ./tools/coracle demo-update

demo-cluster: image
	$(GO) run ./tools/coracle cluster up

check:
	@files=$$($$($(GO) env GOROOT)/bin/gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not formatted by gofmt: $$files"; exit 1; }
	$(GO) vet ./...

unit: setup check
	@$(GO) test $(AS_ROOT) $(UNIT)

test: unit image
	$(GO) test -timeout 80m -parallel 3 -v ./qemu-tests

bench: image
	$(GO) test -timeout 60m -run '^$$' -bench . -benchtime 1x ./image/delta ./agents/kv/bench ./agents/fleet/... ./agents/overlay ./agents/names/... ./rootfs/provision ./rootfs/ignition/firstboot ./rootfs/journald ./rootfs/pid1 ./tools/tufrepo ./qemu-tests/...
