# The Promela model beside docs/SAFETY.md. The rules to break are those that the model itself lists.
MODEL_RULES := $(shell sed -n 's/^\#define \([A-Z_]*\)  *[0-9][0-9]* .*/\1/p' docs/model/standfast.pml)
MODEL_RULES := $(filter-out TERMS COMMITS,$(MODEL_RULES))

.PHONY: model model-safety model-progress $(MODEL_RULES:%=model-broken-%)

model: ## check the model of elections with spin, and that it can fail (two to three minutes)
	@sh scripts/install-deps.sh model
	@$(MAKE) --no-print-directory -j2 model-safety model-progress $(MODEL_RULES:%=model-broken-%)
	@echo "model: safety and progress hold; each of the $(words $(MODEL_RULES)) broken rules does harm"

model-safety model-progress:
	@sh scripts/check-model.sh $(@:model-%=%)

$(MODEL_RULES:%=model-broken-%):
	@sh scripts/check-model.sh broken $(@:model-broken-%=%)
