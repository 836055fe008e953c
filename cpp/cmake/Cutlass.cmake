# Refuses a CUTLASS that is missing or too old, and warns of one that nobody tried. The build script of the Rust library
# has made the same checks with longer messages, and sets NVFP4_CUTLASS_UNTESTED where it has warned.
set(nvfp4_cutlass_minimum 4.5.0)
set(nvfp4_cutlass_tested 4.8.1)
option(NVFP4_CUTLASS_UNTESTED "Take a CUTLASS newer than those that were tried without a warning" OFF)

set(version_header ${CUTLASS_DIR}/include/cutlass/version.h)
if(NOT EXISTS ${version_header})
  message(FATAL_ERROR "There is no CUTLASS in ${CUTLASS_DIR}. Run third_party/fetch.sh, or set CUTLASS_DIR to a "
    "checkout of CUTLASS ${nvfp4_cutlass_minimum} or later.")
endif()
file(STRINGS ${version_header} lines REGEX "^#define CUTLASS_(MAJOR|MINOR|PATCH) +[0-9]+")
list(TRANSFORM lines REPLACE "^#define CUTLASS_[A-Z]+ +([0-9]+).*" "\\1")
list(JOIN lines . nvfp4_cutlass_version)
if(nvfp4_cutlass_version VERSION_LESS nvfp4_cutlass_minimum)
  message(FATAL_ERROR "CUTLASS in ${CUTLASS_DIR} is ${nvfp4_cutlass_version}; the kernels need "
    "${nvfp4_cutlass_minimum} or later. Run third_party/fetch.sh, or set CUTLASS_DIR to another checkout.")
endif()
if(nvfp4_cutlass_version VERSION_GREATER nvfp4_cutlass_tested AND NOT NVFP4_CUTLASS_UNTESTED)
  message(WARNING "CUTLASS ${nvfp4_cutlass_version} in ${CUTLASS_DIR} is newer than ${nvfp4_cutlass_tested}, the "
    "newest that the kernels were compiled with")
endif()
