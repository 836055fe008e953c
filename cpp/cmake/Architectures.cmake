# From NVFP4_CUDA_ARCHS, separated by semicolons or commas:
#   nvfp4_sm90, nvfp4_sm100  the architecture of these kernels, or empty
#   nvfp4_sm100_family       1 where their code runs on later minor versions, too
#   nvfp4_plain_archs        for code that uses nothing of an architecture
#   nvfp4_arch_definitions   what src/registry/table.hpp asks for
string(REPLACE "," ";" archs "${NVFP4_CUDA_ARCHS}")
set(nvfp4_sm90)
set(nvfp4_sm100)
set(nvfp4_sm100_family 0)
set(nvfp4_plain_archs)
foreach(arch IN LISTS archs)
  string(STRIP "${arch}" arch)
  if(arch STREQUAL "90a")
    set(nvfp4_sm90 90a)
    list(APPEND nvfp4_plain_archs 90)
  elseif(arch STREQUAL "100a" OR arch STREQUAL "100f")
    if(nvfp4_sm100 AND NOT nvfp4_sm100 STREQUAL arch)
      message(FATAL_ERROR "NVFP4_CUDA_ARCHS is \"${NVFP4_CUDA_ARCHS}\": the same kernels cannot be compiled for both "
        "100a and 100f")
    endif()
    set(nvfp4_sm100 ${arch})
    list(APPEND nvfp4_plain_archs 100)
    if(arch STREQUAL "100f")
      set(nvfp4_sm100_family 1)
    endif()
  else()
    message(FATAL_ERROR "NVFP4_CUDA_ARCHS is \"${NVFP4_CUDA_ARCHS}\": \"${arch}\" is none of 90a, 100a, 100f")
  endif()
endforeach()
list(REMOVE_DUPLICATES nvfp4_plain_archs)
if(NOT nvfp4_plain_archs)
  message(FATAL_ERROR "NVFP4_CUDA_ARCHS is empty: it lists architectures out of 90a, 100a, 100f")
endif()

set(nvfp4_archs ${nvfp4_sm90} ${nvfp4_sm100})
list(JOIN nvfp4_archs ", " words)
set(nvfp4_arch_definitions
  NVFP4_SM90=$<BOOL:${nvfp4_sm90}>
  NVFP4_SM100=$<BOOL:${nvfp4_sm100}>
  "NVFP4_CUDA_ARCHS=\"${words}\"")
