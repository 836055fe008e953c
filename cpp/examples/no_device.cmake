# Runs PROGRAM where there is no device, or none is visible: it must fail, and say why with CUDA's own words (SENTENCE).
set(ENV{CUDA_VISIBLE_DEVICES} -1)
execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(NOT code EQUAL 1 OR NOT err MATCHES "^error: .*(${SENTENCE})" OR out MATCHES "C\\[0\\]")
  message(FATAL_ERROR "exit code ${code}\n${out}${err}")
endif()
