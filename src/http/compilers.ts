/**
 * What reads requests and writes answers by the schemas of the routes: each compiled when it is first
 * needed. To compile all of them was a third of what a start takes.
 */
import validatorFactory from '@fastify/ajv-compiler'
import serializerFactory from '@fastify/fast-json-stringify-compiler'

type Validators = ReturnType<typeof validatorFactory>
type Serializers = ReturnType<typeof serializerFactory>

const validators = validatorFactory()
const serializers = serializerFactory()

const buildValidator: Validators = (schemas, options) => {
  const compile = validators(schemas, options)
  return (route) => {
    let validate: ReturnType<typeof compile> | undefined
    const lazily = Object.assign(
      (data: unknown) => {
        validate ??= compile(route)
        const fits = validate(data)
        lazily.errors = validate.errors // where Fastify looks for them
        return fits
      },
      { errors: null as ReturnType<typeof compile>['errors'] },
    )
    return lazily as ReturnType<typeof compile>
  }
}

const buildSerializer: Serializers = (schemas, options) => {
  const compile = serializers(schemas, options)
  return (route) => {
    if (Number(route.httpStatus) >= 400) return JSON.stringify // sendProblem writes each problem itself
    let write: ReturnType<typeof compile> | undefined
    return (data) => (write ??= compile(route))(data)
  }
}

export const compilersFactory = { buildValidator, buildSerializer }
